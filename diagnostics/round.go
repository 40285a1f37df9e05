package diagnostics

// Round is one try of every service: the first one, or one that was asked for.
type Round struct {
	before map[string]uint64
}

// FirstRound ends when every service has reported once.
func FirstRound() Round { return Round{} }

// NextRound ends when every service has reported since the snapshot.
func NextRound(all []Status) Round {
	before := make(map[string]uint64, len(all))
	for _, s := range all {
		before[s.Name] = s.Reports
	}
	return Round{before: before}
}

// Over says whether the round has ended, in success or in reported failure.
// While the service named prerequisite has nothing to give, the others only
// wait for it; so its own failure ends the round.
func (r Round) Over(all []Status, prerequisite string) bool {
	over := true
	for _, s := range all {
		reported := s.Reports > r.before[s.Name]
		if s.Name == prerequisite && reported && !s.Ready {
			return true
		}
		over = over && reported
	}
	return over
}

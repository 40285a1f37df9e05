package file

import "time"

// Settle sets how long a file must stay as it is, so that tests are quick.
func (s *Source) Settle(pause time.Duration) { s.settle = pause }

// DefaultSettle is what users get.
const DefaultSettle = settle

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

const (
	aclOutputs = 10
	// aclRounds makes 500 renewals; the official agent, which takes longer for
	// one, makes fewer.
	aclRounds     = 50
	aclTbotRounds = 4
)

// user is an account of the machine.
type user struct {
	name     string
	uid, gid uint32
}

func (u user) credential() *syscall.Credential {
	return &syscall.Credential{Uid: u.uid, Gid: u.gid}
}

// account finds one of the accounts that Linux systems have.
func account(t *testing.T, name string) user {
	t.Helper()
	found, err := osuser.Lookup(name)
	if err != nil {
		t.Skipf("needs the account %s: %v", name, err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	require.NoError(t, err)
	return user{name, uint32(uid), uint32(gid)}
}

// cast are the users of this test: the agent's, the program's, and one who has
// no business there.
type cast struct{ bot, reader, third user }

// aclResult is a row of the table.
type aclResult struct {
	agent    string
	renewals int
	took     time.Duration
	// third is what the third user's attempts came to, reader the reader's in
	// the outputs, storage both users' in the bot's own storage.
	third, reader, storage attempts
	pairs                  readerCounts
}

// TestOnlyReadersRead renews 500 times under the eyes of two other users: a
// third one who tries to open everything the moment it appears, and the reader
// that `init` was told of. The official agent does the same, fewer times.
func TestOnlyReadersRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as three other users")
	}
	c := cast{account(t, "daemon"), account(t, "games"), account(t, "nobody")}
	var results []*aclResult
	for _, agent := range []struct {
		name    string
		rounds  int
		renew   syscall.Signal
		prepare func(t *testing.T, s *stage, c cast) (bin, config string)
	}{
		{"rollcall", aclRounds, syscall.SIGHUP, prepareRollcall},
		{"tbot 14.2.3", aclTbotRounds, syscall.SIGUSR1, prepareTbot},
	} {
		t.Run(agent.name, func(t *testing.T) {
			s := newStage(t)
			require.NoError(t, os.Chmod(s.dir, 0o711))
			bin, config := agent.prepare(t, s, c)
			result := s.renewWatched(t, c, bin, config, agent.rounds, agent.renew)
			result.agent = agent.name
			results = append(results, result)
		})
	}
	t.Log(aclTable(results))
	if t.Failed() {
		return
	}
	ours := results[0]
	t.Logf("the reader began %d of our pairs again", ours.pairs.Documented.Again)
	require.GreaterOrEqual(t, ours.renewals, 500)
	require.Zero(t, ours.third.opened, "the third user opened %v", ours.third.examples)
	require.Greater(t, ours.third.tried, 10*ours.renewals)
	require.Zero(t, ours.storage.opened, "somebody opened %v", ours.storage.examples)
	require.Positive(t, ours.storage.tried)
	require.Greater(t, ours.reader.opened, ours.renewals, "that the spies are quick enough is shown by the reader's, who may")
	pairs := ours.pairs.Documented
	require.Zero(t, pairs.Failed, pairs.Failure)
	require.Zero(t, pairs.Torn)
	require.Greater(t, pairs.Different, int64(ours.renewals)/2)
	require.Zero(t, ours.pairs.Plain.Failed, ours.pairs.Plain.Failure)
}

// renewWatched runs the agent as the bot's user and renews all outputs round by
// round; a round begins when the one before it has reached every output.
func (s *stage) renewWatched(t *testing.T, c cast, bin, config string, rounds int, renew syscall.Signal) *aclResult {
	agent := s.cluster.Run(t, harness.Command{
		Path: bin, Args: []string{"start", "-c", config},
		Env: []string{"HOME=" + s.storage(), "SSL_CERT_FILE=" + filepath.Join(s.dir, "ca.pem")},
		Dir: "/",
		As:  c.bot.credential(),
	})
	var places []string
	serials := make([]string, aclOutputs)
	for i := range serials {
		places = append(places, s.place(outName(i)))
		serials[i] = s.awaitSerial(t, agent, outName(i), "")
	}
	harness.Eventually(t, patience, "the first sets", func() error {
		var all []error
		for _, place := range places {
			_, _, err := openByName(place)
			all = append(all, err)
		}
		return errors.Join(all...)
	})

	trees := append([]string{s.storage()}, places...)
	third, known := spyOn(t, c.third, trees...), spyOn(t, c.reader, trees...)
	reader := readAs(t, c.reader, strings.Join(places, string(filepath.ListSeparator)))
	result := &aclResult{}
	began := time.Now()
	for range rounds {
		agent.Signal(t, renew)
		for i := range serials {
			serials[i] = s.awaitSerial(t, agent, outName(i), serials[i])
			result.renewals++
		}
	}
	result.took = time.Since(began)
	result.pairs = counts(t, reader)
	agent.Terminate(t)
	for tree, seen := range third.end() {
		if tree == s.storage() {
			result.storage.add(seen)
		} else {
			result.third.add(seen)
		}
	}
	for tree, seen := range known.end() {
		if tree == s.storage() {
			result.storage.add(seen)
		} else {
			result.reader.add(seen)
		}
	}
	return result
}

func (a *attempts) add(more *attempts) {
	a.tried += more.tried
	a.opened += more.opened
	a.examples = append(a.examples, more.examples...)
}

func outName(i int) string { return fmt.Sprint("out", i) }

// prepareRollcall makes all directories ready, as the documentation says.
func prepareRollcall(t *testing.T, s *stage, c cast) (bin, config string) {
	t.Helper()
	var outputs strings.Builder
	for i := range aclOutputs {
		fmt.Fprint(&outputs, s.application(outName(i), ""))
	}
	config = s.hand(t, c.bot, s.document(t, document{outputs: outputs.String()}), "rollcall.yaml", 0o600)
	for _, changed := range []bool{true, false} {
		made := s.cluster.Rollcall(t, "init", "-c", config, "--format=json",
			"--bot-user="+c.bot.name, "--owner="+c.bot.name+":"+c.bot.name, "--reader-user="+c.reader.name)
		made.Succeed(t)
		var report struct{ Changed bool }
		require.NoError(t, json.Unmarshal([]byte(made.Stdout.String()), &report))
		require.Equal(t, changed, report.Changed, made.Stdout.String())
	}
	s.hand(t, c.bot, s.cluster.Info().ProxyCA, "ca.pem", 0o600)
	return s.hand(t, c.bot, suite.Bin.Rollcall, "agent", 0o700), config
}

// prepareTbot does the same with the official agent's own `init`, which makes
// one output's directory at a time and not the storage.
func prepareTbot(t *testing.T, s *stage, c cast) (bin, config string) {
	t.Helper()
	var outputs strings.Builder
	for i := range aclOutputs {
		fmt.Fprintf(&outputs, "  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n",
			s.app.Name, s.place(outName(i)))
	}
	config = s.hand(t, c.bot, s.tbotDocument(t, outputs.String()), "tbot.yaml", 0o600)
	require.NoError(t, os.Mkdir(s.storage(), 0o700))
	require.NoError(t, os.Chown(s.storage(), int(c.bot.uid), int(c.bot.gid)))
	for i := range aclOutputs {
		s.cluster.Tbot(t, "init", "-c", config, "--init-dir="+s.place(outName(i)),
			"--bot-user="+c.bot.name, "--reader-user="+c.reader.name).Succeed(t)
	}
	s.hand(t, c.bot, s.cluster.Info().ProxyCA, "ca.pem", 0o600)
	return s.hand(t, c.bot, suite.Bin.Tbot, "agent", 0o700), config
}

// hand copies a file to where that user can get to, and gives it to them.
func (s *stage) hand(t *testing.T, to user, from, name string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	out, err := exec.CommandContext(t.Context(), "cp", "--", from, path).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.Chmod(path, mode))
	require.NoError(t, os.Chown(path, int(to.uid), int(to.gid)))
	return path
}

func aclTable(results []*aclResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "opened of tried, and failed and torn of the pairs read\n%-12s %8s  %-18s %-18s %-18s %-34s %-34s\n", "agent", "renewals",
		"a third user", "both, in storage", "the reader (may)", "pairs, opened once", "pairs, by two names")
	for _, r := range results {
		fmt.Fprintf(&b, "%-12s %8d", r.agent, r.renewals)
		for _, a := range []attempts{r.third, r.storage, r.reader} {
			fmt.Fprintf(&b, "  %-17s", fmt.Sprintf("%d of %d", a.opened, a.tried))
		}
		for _, p := range []pairCounts{r.pairs.Documented, r.pairs.Plain} {
			fmt.Fprintf(&b, "  %-33s", fmt.Sprintf("%d failed, %d torn of %d", p.Failed, p.Torn, p.Reads+p.Failed))
		}
		fmt.Fprintf(&b, "  in %v\n", r.took.Round(time.Second))
	}
	return b.String()
}

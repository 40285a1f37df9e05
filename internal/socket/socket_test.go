package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kinds are the sockets that can be read and written without package net.
var kinds = []string{"tcp", "unix"}

// pair returns both ends of a connection, closed when the test ends: near is
// package net's own, far the one that is tested.
func pair(tb testing.TB, kind string) (near net.Conn, far *Conn) {
	tb.Helper()
	at := "127.0.0.1:0"
	if kind == "unix" {
		at = filepath.Join(tb.TempDir(), "socket")
	}
	listener, err := net.Listen(kind, at)
	require.NoError(tb, err)
	defer listener.Close()
	near, err = net.Dial(kind, listener.Addr().String())
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = near.Close() })
	accepted, err := listener.Accept()
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = accepted.Close() })
	far, ok := Over(accepted).(*Conn)
	require.True(tb, ok)
	return near, far
}

func forEachKind(t *testing.T, test func(t *testing.T, near net.Conn, far *Conn)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			near, far := pair(t, kind)
			test(t, near, far)
		})
	}
}

// TestCarriesAllOfIt in both directions, much more than a socket's buffers hold.
func TestCarriesAllOfIt(t *testing.T) {
	forEachKind(t, func(t *testing.T, near net.Conn, far *Conn) {
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		go func() {
			_, _ = io.Copy(near, struct{ io.Reader }{near})
			_ = closeWrite(near)
		}()
		go func() {
			n, err := far.Write(sent)
			if n != len(sent) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			_ = far.CloseWrite()
		}()

		got, err := io.ReadAll(far)

		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got))
	})
}

func closeWrite(conn net.Conn) error { return conn.(interface{ CloseWrite() error }).CloseWrite() }

// TestReturnsWhatHasCome, and doesn't wait for more.
func TestReturnsWhatHasCome(t *testing.T) {
	forEachKind(t, func(t *testing.T, near net.Conn, far *Conn) {
		_, err := near.Write([]byte("hello"))
		require.NoError(t, err)
		p := make([]byte, 100)

		n, err := far.Read(p)

		require.NoError(t, err)
		require.Equal(t, "hello", string(p[:n]))
	})
}

// TestNothingToReadOrWrite is no reason to wait, nor an end.
func TestNothingToReadOrWrite(t *testing.T) {
	forEachKind(t, func(t *testing.T, _ net.Conn, far *Conn) {
		n, err := far.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)

		n, err = far.ReadNow(nil)
		require.NoError(t, err)
		require.Zero(t, n)

		n, err = far.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)

		require.NoError(t, far.Close())
		for _, do := range []func([]byte) (int, error){far.Read, far.ReadNow, far.Write} {
			_, err = do(nil)
			require.ErrorIs(t, err, net.ErrClosed, "as of package net")
		}
	})
}

// TestDeadlines end waiting, as package net's do, and leave the connection usable.
func TestDeadlines(t *testing.T) {
	forEachKind(t, func(t *testing.T, near net.Conn, far *Conn) {
		require.NoError(t, far.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := far.Read(make([]byte, 1))
		requireTimeout(t, err)

		type result struct {
			n   int
			err error
		}
		written := make(chan result)
		go func() {
			n, err := far.Write(make([]byte, 16<<20)) // more than there's room for
			written <- result{n, err}
		}()
		_, err = io.ReadFull(near, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, far.SetWriteDeadline(time.Unix(1, 0)))
		wrote := <-written
		requireTimeout(t, wrote.err)
		require.Positive(t, wrote.n, "what was sent is counted")

		require.NoError(t, far.SetDeadline(time.Time{}))
		_, err = near.Write([]byte("x"))
		require.NoError(t, err)
		_, err = far.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func requireTimeout(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

// TestCloseEndsWaiting: Close doesn't wait for who reads or writes.
func TestCloseEndsWaiting(t *testing.T) {
	forEachKind(t, func(t *testing.T, _ net.Conn, far *Conn) {
		ended := make(chan error, 2)
		go func() {
			_, err := far.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			_, err := far.Write(make([]byte, 64<<20))
			ended <- err
		}()
		far.awaitBusy(t)

		require.NoError(t, far.Close())

		require.ErrorIs(t, <-ended, net.ErrClosed)
		require.ErrorIs(t, <-ended, net.ErrClosed)
		_, err := far.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// awaitBusy waits until both sides are in use.
func (c *Conn) awaitBusy(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, s := range []*side{&c.reading, &c.writing} {
			if s.mu.TryLock() {
				s.mu.Unlock()
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

// TestErrorsAreWordedAsByPackageNet, for those who read them, and for who asks
// what they are.
func TestErrorsAreWordedAsByPackageNet(t *testing.T) {
	read := func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	write := func(c net.Conn) error { _, err := c.Write(make([]byte, 1)); return err }
	tests := map[string]struct {
		prepare func(near, far net.Conn)
		do      func(net.Conn) error
		is      error
	}{
		"the end":                {func(near, _ net.Conn) { _ = near.Close() }, read, io.EOF},
		"a reset":                {func(near, _ net.Conn) { reset(near) }, read, syscall.ECONNRESET},
		"a write after the end":  {func(_, far net.Conn) { _ = closeWrite(far) }, write, syscall.EPIPE},
		"a read after a close":   {func(_, far net.Conn) { _ = far.Close() }, read, net.ErrClosed},
		"a write after a close":  {func(_, far net.Conn) { _ = far.Close() }, write, net.ErrClosed},
		"a read after its time":  {func(_, far net.Conn) { _ = far.SetDeadline(time.Unix(1, 0)) }, read, os.ErrDeadlineExceeded},
		"a write after its time": {func(_, far net.Conn) { _ = far.SetDeadline(time.Unix(1, 0)) }, write, os.ErrDeadlineExceeded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t, "tcp")
			test.prepare(near, far)

			ours, theirs := test.do(far), error(nil)
			if !errors.Is(ours, syscall.ECONNRESET) { // which is told once
				theirs = test.do(far.Conn)
				require.Equal(t, fmt.Sprint(theirs), fmt.Sprint(ours))
			}

			require.ErrorIs(t, ours, test.is)
			if test.is != io.EOF {
				var op *net.OpError
				require.ErrorAs(t, ours, &op)
				require.Contains(t, []string{"read", "write"}, op.Op)
			}
		})
	}
}

// reset ends a connection without an end.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// TestManyAtOnce: what one Write sends isn't mixed with that of another.
func TestManyAtOnce(t *testing.T) {
	forEachKind(t, func(t *testing.T, near net.Conn, far *Conn) {
		const writers, size = 8, 1 << 20
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() { _, _ = far.Write(bytes.Repeat([]byte{byte(i)}, size)) })
		}
		go func() { all.Wait(); _ = far.CloseWrite() }()

		got, err := io.ReadAll(near)

		require.NoError(t, err)
		require.Len(t, got, writers*size)
		seen := map[byte]bool{}
		for part := range slices.Chunk(got, size) {
			require.True(t, bytes.Equal(bytes.Repeat(part[:1], size), part), "a part of one writer's alone")
			seen[part[0]] = true
		}
		require.Len(t, seen, writers)
	})
}

// TestOnlySockets are taken over, and none of them twice.
func TestOnlySockets(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	require.Same(t, one, Over(one))

	_, far := pair(t, "tcp")
	require.Same(t, far, Over(far))
	closed := far.Conn
	require.NoError(t, closed.Close())
	_, err := Over(closed).Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestReadNow never waits, with whatever deadline, and tells an end from nothing.
func TestReadNow(t *testing.T) {
	forEachKind(t, func(t *testing.T, near net.Conn, far *Conn) {
		p := make([]byte, 10)
		_, err := far.ReadNow(p)
		require.ErrorIs(t, err, ErrNothing)
		require.NoError(t, far.SetReadDeadline(time.Unix(1, 0)))
		_, err = far.ReadNow(p)
		require.ErrorIs(t, err, ErrNothing)

		_, err = near.Write([]byte("hello"))
		require.NoError(t, err)
		require.Equal(t, "hello", eventuallyNow(t, far, p))

		require.NoError(t, near.Close())
		require.Eventually(t, func() bool {
			_, err = far.ReadNow(p)
			return !errors.Is(err, ErrNothing)
		}, time.Minute, time.Millisecond)
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, far.Close())
		_, err = far.ReadNow(p)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// eventuallyNow is what has come when something has.
func eventuallyNow(t *testing.T, conn *Conn, p []byte) string {
	t.Helper()
	n := 0
	require.Eventually(t, func() bool {
		var err error
		n, err = conn.ReadNow(p)
		return err == nil
	}, time.Minute, time.Millisecond)
	return string(p[:n])
}

// TestCalls: what is asked of the system, and how.
func TestCalls(t *testing.T) {
	_, far := pair(t, "tcp")
	var made []string
	errnos := []syscall.Errno{}
	fake := func(name string) call {
		return func(_ uintptr, p []byte) (int, syscall.Errno) {
			made = append(made, fmt.Sprint(name, " ", len(p)))
			errno := syscall.Errno(0)
			if len(errnos) > 0 {
				errno, errnos = errnos[0], errnos[1:]
			}
			if errno == syscall.EAGAIN {
				_ = far.SetReadDeadline(time.Unix(1, 0)) // the wait ends at once
			}
			return len(p), errno
		}
	}
	far.reading.call, far.reading.told, far.writing.call = fake("read"), fake("told"), fake("write")

	t.Run("short ones", func(t *testing.T) {
		made = nil
		p := make([]byte, most+1)
		n, err := far.Read(p)
		require.NoError(t, err)
		require.Equal(t, most, n)
		n, err = far.Write(p)
		require.NoError(t, err)
		require.Equal(t, most+1, n)
		require.Equal(t, []string{fmt.Sprint("read ", most), fmt.Sprint("write ", most), "write 1"}, made)
		require.Nil(t, far.reading.p, "a buffer isn't kept")
		require.Nil(t, far.writing.p, "a buffer isn't kept")
	})

	t.Run("once more after a signal", func(t *testing.T) {
		made, errnos = nil, []syscall.Errno{syscall.EINTR, syscall.EINTR}
		n, err := far.Read(make([]byte, 5))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Equal(t, []string{"read 5", "read 5", "read 5"}, made)
	})

	t.Run("one of many is told", func(t *testing.T) {
		far.reading.row, made = 0, nil
		for range 2*mostInARow + 2 {
			_, err := far.Read(make([]byte, 5))
			require.NoError(t, err)
		}
		require.Equal(t, slices.Repeat(append(slices.Repeat([]string{"read 5"}, mostInARow), "told 5"), 2), made)
	})

	t.Run("none of those that wait", func(t *testing.T) {
		far.reading.row, made = 0, nil
		for range mostInARow {
			_, err := far.Read(make([]byte, 5))
			require.NoError(t, err)
			errnos = []syscall.Errno{syscall.EAGAIN}
			_, err = far.Read(make([]byte, 5))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, far.SetReadDeadline(time.Time{}))
		}
		require.Equal(t, slices.Repeat([]string{"read 5"}, 2*mostInARow), made)
	})

	t.Run("one of many that find nothing, and go on", func(t *testing.T) {
		far.reading.row, made = 0, nil
		for range mostInARow + 1 {
			errnos = []syscall.Errno{syscall.EAGAIN}
			_, err := far.ReadNow(make([]byte, 5))
			require.ErrorIs(t, err, ErrNothing)
		}
		require.Equal(t, append(slices.Repeat([]string{"read 5"}, mostInARow), "told 5"), made)
	})
}

// TestReadNowAwaitsItsTurn: two reads have one place for what they do.
func TestReadNowAwaitsItsTurn(t *testing.T) {
	_, far := pair(t, "tcp")
	entered, leave := make(chan struct{}), make(chan struct{})
	var under atomic.Int64
	far.reading.call = func(_ uintptr, p []byte) (int, syscall.Errno) {
		if under.Add(1) > 1 {
			t.Error("two at once")
		}
		entered <- struct{}{}
		<-leave
		under.Add(-1)
		return len(p), 0
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = far.Read(make([]byte, 1)) })
	<-entered

	both.Go(func() { _, _ = far.ReadNow(make([]byte, 1)) })

	select {
	case <-entered:
		t.Error("it doesn't wait")
	case <-time.After(20 * time.Millisecond): // nothing tells that somebody waits
		leave <- struct{}{}
		select {
		case <-entered:
		case <-time.After(time.Minute):
			t.Error("it doesn't look")
		}
	}
	close(leave)
	both.Wait()
}

// TestTakesNoMemory: the calls are made for each request.
func TestTakesNoMemory(t *testing.T) {
	near, far := pair(t, "tcp")
	p := make([]byte, 10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = near.Write(p)
		_, _ = far.Read(p)
		_, _ = far.ReadNow(p)
		_, _ = far.Write(p)
		_, _ = near.Read(p)
	}))
}

// BenchmarkEcho has a rest after each message, in which the runtime's monitor gets
// bored: what counts is the CPU's time of the whole, and how often threads slept.
func BenchmarkEcho(b *testing.B) {
	for name, over := range map[string]func(net.Conn) net.Conn{"net": func(conn net.Conn) net.Conn { return conn }, "socket": Over} {
		b.Run(name, func(b *testing.B) {
			near, accepted := pair(b, "tcp")
			far, asks := over(accepted.Conn), over(near)
			go func() { _, _ = io.Copy(far, struct{ io.Reader }{far}) }()
			p := make([]byte, 100)
			var before, after syscall.Rusage
			require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
			for b.Loop() {
				_, _ = asks.Write(p)
				_, err := asks.Read(p)
				require.NoError(b, err)
				time.Sleep(100 * time.Microsecond)
			}
			require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
			b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(after.Nvcsw-before.Nvcsw)/float64(b.N), "sleeps/op")
		})
	}
}

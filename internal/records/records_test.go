package records

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// random returns as many bytes, always the same ones.
func random(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(out) // it has no errors
	return out
}

// pieces is a connection on which what is written goes out in pieces that have
// nothing to do with records, with pauses in between.
type pieces struct {
	net.Conn
	random *rand.Rand
}

func (s *pieces) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(1+s.random.IntN(40<<10), len(rest))
		if _, err := s.Conn.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if s.random.IntN(8) == 0 {
			time.Sleep(100 * time.Microsecond) // the other side shall wait in the middle of a record
		}
		runtime.Gosched()
	}
	return len(p), nil
}

func TestBytesComeBackAsTheyWere(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			server := serverConfig()
			server.SessionTicketsDisabled, server.DynamicRecordSizingDisabled = false, false
			conn, peer := join(t, near, &pieces{Conn: far, random: rand.New(rand.NewPCG(1, 2))}, clientConfig(version), server)
			content := random(3 * mebibyte)
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{peer}, struct{ io.Reader }{peer}, make([]byte, 50<<10))
				_ = peer.CloseWrite()
			}()
			go writeAtRandom(conn, content)

			got := readAtRandom(t, conn)

			require.True(t, bytes.Equal(content, got), "what came back differs")
		})
	}
}

func writeAtRandom(conn *Conn, content []byte) {
	sizes := rand.New(rand.NewPCG(3, 4))
	for len(content) > 0 {
		n := min(sizes.IntN(1<<sizes.IntN(19)), len(content))
		if _, err := conn.Write(content[:n]); err != nil {
			return // what comes back will be too short
		}
		content = content[n:]
	}
	_ = conn.CloseWrite()
}

func readAtRandom(t *testing.T, conn *Conn) []byte {
	t.Helper()
	var got []byte
	buf, sizes := make([]byte, 256<<10), rand.New(rand.NewPCG(5, 6))
	for {
		n, err := conn.Read(buf[:1+sizes.IntN(1<<sizes.IntN(19))])
		got = append(got, buf[:n]...)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return got
		}
	}
}

func TestReadFromSendsAllOfAReader(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	content := random(mebibyte + 1)
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(peer)
		got <- all
	}()

	n, err := conn.ReadFrom(bytes.NewReader(content))

	require.NoError(t, err)
	require.EqualValues(t, len(content), n)
	require.NoError(t, conn.Close())
	require.True(t, bytes.Equal(content, within(t, got)), "what came differs")
}

func TestAReadWaitsForNoMoreThanIsThere(t *testing.T) {
	first, second := random(maxRecord), random(maxRecord/2)
	for name, version := range versions {
		for _, test := range []struct {
			name string
			// before is how much comes before, in one go.
			before int
			// cut is how much of the second record comes with the first.
			cut int
		}{
			{"half of the next record on a fresh connection", 0, 5000},
			{"half of the next record", 4 * maxRecord, 5000},
			{"part of the next header", 4 * maxRecord, 3},
			{"nothing", 4 * maxRecord, 0},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				near, far := network(t)
				server := &stream{Conn: far}
				conn, peer := join(t, near, server, clientConfig(version), serverConfig())
				if test.before > 0 {
					_, err := far.Write(server.records(t, peer, random(test.before)))
					require.NoError(t, err)
					_, err = io.ReadFull(conn, make([]byte, test.before))
					require.NoError(t, err)
				}
				head, tail := server.records(t, peer, first), server.records(t, peer, second)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
				buf := make([]byte, bufferSize)
				_, err := far.Write(slices.Concat(head, tail[:test.cut]))
				require.NoError(t, err)

				n, err := conn.Read(buf)

				require.NoError(t, err)
				require.Equal(t, first, buf[:n])
				_, err = far.Write(tail[test.cut:])
				require.NoError(t, err)
				n, err = conn.Read(buf)
				require.NoError(t, err)
				require.Equal(t, second, buf[:n])
			})
		}
	}
}

func TestAMebibyteTakesFewCalls(t *testing.T) {
	content := random(mebibyte)
	receive := func(t *testing.T, conn net.Conn, peer *tls.Conn, near *probe) (reads, calls int64) {
		t.Helper()
		near.flood.Store(true)
		near.reads.Store(0)
		go func() { _, _ = peer.Write(content); _ = peer.Close() }()
		buf := make([]byte, 4*maxRecord)
		var got []byte
		for {
			n, err := conn.Read(buf)
			calls++
			got = append(got, buf[:n]...)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				require.True(t, bytes.Equal(content, got), "what came differs")
				return near.reads.Load(), calls
			}
		}
	}
	send := func(t *testing.T, conn net.Conn, peer *tls.Conn, near *probe) (writes int64) {
		t.Helper()
		near.writes.Store(0)
		got := make(chan []byte, 1)
		go func() { all := make([]byte, mebibyte); _, _ = io.ReadFull(peer, all); got <- all }()
		for part := range slices.Chunk(content, 4*maxRecord) {
			_, err := conn.Write(part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(content, within(t, got)), "what came differs")
		return near.writes.Load()
	}
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			plainNear, plainFar := network(t)
			plain, plainPeer := joinPlain(t, plainNear, plainFar, clientConfig(version), serverConfig())
			near, far := network(t)
			conn, peer := join(t, near, far, clientConfig(version), serverConfig())

			plainWrites := send(t, plain, plainPeer, plainNear)
			writes := send(t, conn, peer, near)
			plainReads, plainCalls := receive(t, plain, plainPeer, plainNear)
			reads, calls := receive(t, conn, peer, near)

			t.Logf("writes: %d rather than %d; reads: %d rather than %d, of %d rather than %d calls of Read", writes, plainWrites, reads, plainReads, calls, plainCalls)
			require.EqualValues(t, mebibyte/(4*maxRecord), writes)
			require.Less(t, 3*writes, plainWrites)
			require.Less(t, 3*reads, 2*plainReads)
			require.Less(t, 2*calls, plainCalls)
		})
	}
}

// The first records of a connection are short.
func TestEachWriteIsOneCallFromTheBeginning(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	for _, size := range []int{1, oneRecord, oneRecord + 1, 5000, maxRecord, 4 * maxRecord} {
		near.writes.Store(0)

		n, err := conn.Write(random(size))

		require.NoError(t, err)
		require.Equal(t, size, n)
		require.EqualValues(t, 1, near.writes.Load(), "%d bytes", size)
	}
}

func TestTheEndIsAsWithPlainTLS(t *testing.T) {
	content := random(5*maxRecord + 77)
	for name, version := range versions {
		for _, test := range []struct {
			name string
			end  func(records []byte, far net.Conn, peer *tls.Conn)
			// want is the error, if it's known without asking plain TLS.
			want error
		}{
			{"close_notify", func(records []byte, far net.Conn, peer *tls.Conn) {
				_, _ = far.Write(records)
				_ = peer.CloseWrite()
			}, io.EOF},
			{"closed after a record", func(records []byte, far net.Conn, _ *tls.Conn) {
				_, _ = far.Write(records)
				_ = far.Close()
			}, io.EOF},
			{"closed within a record", func(records []byte, far net.Conn, _ *tls.Conn) {
				_, _ = far.Write(records[:len(records)-5])
				_ = far.Close()
			}, io.ErrUnexpectedEOF},
			{"broken record", func(records []byte, far net.Conn, _ *tls.Conn) {
				records[len(records)-1] ^= 1
				_, _ = far.Write(records)
			}, nil},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				outcome := func(conn net.Conn, far net.Conn, peer *tls.Conn, server *stream) ([]byte, error) {
					test.end(server.records(t, peer, content), far, peer)
					var got bytes.Buffer
					_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{conn}, make([]byte, 4*maxRecord))
					_, again := conn.Read(make([]byte, 1))
					require.Error(t, again)
					if err == nil {
						require.Equal(t, io.EOF, again)
						err = again
					}
					return got.Bytes(), err
				}
				near, far := network(t)
				server := &stream{Conn: far}
				conn, peer := join(t, near, server, clientConfig(version), serverConfig())
				plainNear, plainFar := network(t)
				plainServer := &stream{Conn: plainFar}
				plain, plainPeer := joinPlain(t, plainNear, plainServer, clientConfig(version), serverConfig())

				wanted, wantedErr := outcome(plain, plainFar, plainPeer, plainServer)
				got, err := outcome(conn, far, peer, server)

				require.True(t, bytes.Equal(wanted, got), "%d bytes came, not %d", len(got), len(wanted))
				require.Equal(t, wantedErr.Error(), err.Error())
				if test.want != nil {
					require.Equal(t, test.want, err)
				}
			})
		}
	}
}

func TestAfterCloseWriteTheAnswerStillComes(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			conn, peer := join(t, near, far, clientConfig(version), serverConfig())
			asked := random(5 * maxRecord)
			got := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(peer)
				_, _ = peer.Write([]byte("answer"))
				_ = peer.Close()
				got <- all
			}()
			_, err := conn.Write(asked)
			require.NoError(t, err)

			err = conn.CloseWrite()

			require.NoError(t, err)
			require.Equal(t, asked, within(t, got))
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, "answer", string(answer))
			_, err = conn.Write(asked)
			require.Error(t, err)
		})
	}
}

func TestAReadGoesOnAfterItsDeadline(t *testing.T) {
	content := random(4*maxRecord + maxRecord/2)
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			server := &stream{Conn: far}
			conn, peer := join(t, near, server, clientConfig(version), serverConfig())
			sent := server.records(t, peer, content)
			buf, got := make([]byte, bufferSize), []byte(nil)
			begin := 0
			for _, end := range []int{3, 9000, 3*maxRecord + 9000, len(sent) - 1, len(sent)} {
				_, err := far.Write(sent[begin:end])
				require.NoError(t, err)
				begin = end
				for err == nil {
					require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
					var n int

					n, err = conn.Read(buf)

					got = append(got, buf[:n]...)
				}
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			// On a busy machine the last deadline may have passed before the read began.
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			for len(got) < len(content) {
				n, err := conn.Read(buf)
				require.NoError(t, err)
				got = append(got, buf[:n]...)
			}
			require.True(t, bytes.Equal(content, got), "%d bytes came, not %d, or others", len(got), len(content))
		})
	}
}

func TestAWriteEndsWithItsDeadlineForGood(t *testing.T) {
	for name, size := range map[string]int{"held": 4 * maxRecord, "at once": oneRecord} {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
			content := random(size)
			require.NoError(t, conn.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))

			var accepted int
			var err error
			for err == nil {
				var n int
				n, err = conn.Write(content)
				accepted += n
			}

			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, conn.SetWriteDeadline(time.Now().Add(soon)))
			writes := near.writes.Load()
			for _, size := range []int{1, 4 * maxRecord} {
				n, err := conn.Write(content[:min(size, len(content))])
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Zero(t, n)
			}
			_ = conn.Close() // it can't say goodbye any more, and says so
			require.Equal(t, writes, near.writes.Load(), "something was sent after a part of a record")
			got, err := io.ReadAll(peer)
			require.True(t, err == nil || err == io.ErrUnexpectedEOF, "%v", err)
			require.InDelta(t, accepted, len(got), maxRecord)
		})
	}
}

func TestAFailedWriteSaysHowMuchWasSent(t *testing.T) {
	for _, test := range []struct {
		name            string
		length, allowed int
		atLeast, atMost int
	}{
		{"nothing", 4 * maxRecord, 0, 0, 0},
		{"a part", 4 * maxRecord, 40_000, 39_000, 40_000},
		{"all but the last byte", 4 * maxRecord, 4*maxRecord + 4*22 - 1, 4*maxRecord - 100, 4*maxRecord - 1},
		{"nothing of much", mebibyte, 0, 0, 0},
		{"a part of much", mebibyte, 500_000, 498_000, 500_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			near, far := network(t)
			config := clientConfig(tls.VersionTLS13)
			config.DynamicRecordSizingDisabled = true
			conn, peer := join(t, near, far, config, serverConfig())
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			near.allow(test.allowed)

			n, err := conn.Write(random(test.length))

			require.ErrorIs(t, err, errFull)
			require.GreaterOrEqual(t, n, test.atLeast)
			require.LessOrEqual(t, n, test.atMost)
		})
	}
}

func TestTheFirstWriteShakesHands(t *testing.T) {
	near, far := network(t)
	conn, peer := new(Pool).Client(near, clientConfig(tls.VersionTLS13)), tls.Server(far, serverConfig())
	inTime(t, conn, peer)
	content := random(4 * maxRecord)
	got := make(chan []byte, 1)
	go func() {
		all := make([]byte, len(content))
		_, _ = io.ReadFull(peer, all)
		got <- all
	}()

	_, err := conn.Write(content)

	require.NoError(t, err)
	require.Equal(t, content, within(t, got))
}

func TestReadAndWriteMayShareTheHandshake(t *testing.T) {
	near, far := network(t)
	conn, peer := new(Pool).Client(near, clientConfig(tls.VersionTLS13)), tls.Server(far, serverConfig())
	inTime(t, conn, peer)
	content := random(mebibyte)
	go func() { _, _ = io.Copy(struct{ io.Writer }{peer}, struct{ io.Reader }{peer}) }()
	written := make(chan error, 1)
	go func() { _, err := conn.Write(content); written <- err }()

	got := make([]byte, len(content))
	_, err := io.ReadFull(conn, got)

	require.NoError(t, err)
	require.NoError(t, within(t, written))
	require.True(t, bytes.Equal(content, got), "what came back differs")
}

func TestWritesOfSeveralStayWhole(t *testing.T) {
	const writers, each = 4, 40
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	var all sync.WaitGroup
	for id := range writers {
		all.Go(func() {
			sizes := rand.New(rand.NewPCG(uint64(id), 0))
			for range each {
				n := sizes.IntN(1 << sizes.IntN(18))
				message := append(binary.BigEndian.AppendUint32([]byte{byte(id)}, uint32(n)), bytes.Repeat([]byte{byte(id)}, n)...)
				if _, err := conn.Write(message); err != nil {
					return // too few will come
				}
			}
		})
	}
	go func() { all.Wait(); _ = conn.CloseWrite() }()
	came := 0
	for {
		head := make([]byte, 5)

		_, err := io.ReadFull(peer, head)

		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		_, err = io.ReadFull(peer, message)
		require.NoError(t, err)
		require.Equal(t, len(message), bytes.Count(message, head[:1]), "a message was mixed with others")
		came++
	}
	require.Equal(t, writers*each, came)
	all.Wait()
}

func TestReadsOfSeveralGetEachByteOnce(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	content := random(mebibyte)
	go func() { _, _ = peer.Write(content); _ = peer.Close() }()
	var want, got [256]int
	for _, c := range content {
		want[c]++
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var ends []error
	for range 3 {
		all.Go(func() {
			bytes, err := io.ReadAll(conn)
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, err)
			for _, c := range bytes {
				got[c]++
			}
		})
	}

	all.Wait()

	require.Equal(t, []error{nil, nil, nil}, ends)
	require.Equal(t, want, got)
}

package tunnel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is a connection from which at most as much is read at once as there
// is.
type source struct {
	net.Conn
	data  []byte
	there int
	reads int
	room  []int
}

func (s *source) Read(p []byte) (int, error) {
	s.reads++
	s.room = append(s.room, len(p))
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.there, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

func newSource(size, there int) (*source, []byte) {
	data := make([]byte, size)
	chaCha := rand.NewChaCha8([32]byte{})
	_, _ = chaCha.Read(data)
	return &source{data: data, there: there}, data
}

func clientOn(t *testing.T, conn net.Conn) *client {
	t.Helper()
	return &client{Conn: conn, front: &front{counts: NewMetrics().of("test"), bulk: newBuffers(bulkBuffer)}}
}

// TestWhatFloodsIsReadInFewPieces reads as http.Server does where a body comes
// in chunks: 4 KiB at a time.
func TestWhatFloodsIsReadInFewPieces(t *testing.T) {
	src, want := newSource(1<<20, 1<<20)
	c := clientOn(t, src)

	got, err := readBy(c, 4<<10)

	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	require.Less(t, src.reads, 40, "instead of 256")
	require.EqualValues(t, len(want), c.sent.Load())
	require.Nil(t, c.bulk, "the buffer was given back")
}

// TestWhoWaitsHasNoBuffer: a client that sends little is read from directly, and
// so is one whose flood is over.
func TestWhoWaitsHasNoBuffer(t *testing.T) {
	src, want := newSource(100<<10, 3<<10)
	c := clientOn(t, src)

	got, err := readBy(c, 4<<10)

	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	for _, room := range src.room {
		require.LessOrEqual(t, room, 4<<10, "no more than was asked for")
	}
}

// TestABodyOfKnownLengthIsNoFlood: its last read is filled to the end, and who
// waits for the answer has no buffer.
func TestABodyOfKnownLengthIsNoFlood(t *testing.T) {
	src, _ := newSource(64<<10, 64<<10)
	c := clientOn(t, src)
	for _, size := range []int{2000, 10_000, 1} {
		_, err := io.ReadFull(c, make([]byte, size))
		require.NoError(t, err)
		require.Nil(t, c.bulk)
	}
	require.Equal(t, []int{2000, 10_000, 1}, src.room)
}

// TestWhoSendsMuch: more than a chunk is likely to be here, after each step of reads.
func TestWhoSendsMuch(t *testing.T) {
	type read struct {
		there, size int
		much        bool
	}
	for name, reads := range map[string][]read{
		"a flood": {
			{serverRead, serverRead, false}, {bulkBuffer, serverRead, true},
			{bulkBuffer, bulkBuffer - serverRead, true}, {bulkBuffer, serverRead, true},
		},
		"the end of a flood": {
			{serverRead, serverRead, false}, {bulkBuffer, serverRead, true},
			{100, bulkBuffer - serverRead, true}, {100, serverRead, false},
		},
		"the better part of a flood": {
			{serverRead, serverRead, false}, {50 << 10, serverRead, true}, {50 << 10, 20 << 10, false},
		},
		"a short one": {{serverRead, serverRead, false}, {20 << 10, serverRead, false}},
		"a trickle":   {{100, serverRead, false}, {100, serverRead, false}},
	} {
		t.Run(name, func(t *testing.T) {
			src, _ := newSource(1<<20, 0)
			c := clientOn(t, src)
			for i, step := range reads {
				src.there = step.there

				_, err := io.ReadFull(c, make([]byte, min(step.size, max(step.there, len(c.rest)))))

				require.NoError(t, err)
				require.Equal(t, step.much, c.much.Load(), "step %d", i)
			}
		})
	}
}

// TestNothingOfAFloodIsLost mixes sizes of what comes and of what is asked for,
// with something read ahead.
func TestNothingOfAFloodIsLost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		src, want := newSource(500<<10, 1)
		c := clientOn(t, src)
		c.ahead = io.MultiReader(bytes.NewReader(want[:5000]), src)
		src.data = src.data[5000:]
		var got []byte
		for {
			src.there = 1 + random.IntN(100<<10)
			p := make([]byte, 1+random.IntN(70<<10))
			n, err := c.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
		require.True(t, bytes.Equal(want, got))
	}
}

// readBy reads until the end, so much at a time.
func readBy(r io.Reader, size int) ([]byte, error) {
	var all []byte
	p := make([]byte, size)
	for {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

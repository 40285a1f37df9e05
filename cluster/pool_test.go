package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/stretchr/testify/require"
)

// dials counts, and can be held up or made to fail.
type dials struct {
	count atomic.Int32
	hold  chan struct{}
	err   error
}

func (d *dials) dial(ctx context.Context, _ *Credentials) (*client.Client, error) {
	d.count.Add(1)
	if d.hold != nil {
		select {
		case <-d.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return client.New(context.Background(), client.Config{
		Addrs:            []string{"127.0.0.1:1"},
		Credentials:      []client.Credentials{client.LoadTLS(authTLS(nil))},
		DialInBackground: true,
	})
}

// closed says whether the connection was closed: gRPC answers at once then.
func closed(c *connection) bool {
	return c.GetConnection().GetState().String() == "SHUTDOWN"
}

func TestPoolDialsOnce(t *testing.T) {
	d := &dials{hold: make(chan struct{})}
	p := newPool(d.dial)
	creds := &Credentials{}
	var group sync.WaitGroup
	conns := make([]*connection, 20)
	for n := range conns {
		group.Go(func() {
			conn, release, err := p.get(t.Context(), creds)
			require.NoError(t, err)
			conns[n] = conn
			release()
			release() // a second one is harmless
		})
	}
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.entries[creds] != nil && p.entries[creds].users == len(conns)
	}, 30*time.Second, time.Millisecond)
	close(d.hold)
	group.Wait()
	require.EqualValues(t, 1, d.count.Load())
	for _, conn := range conns {
		require.Same(t, conns[0], conn)
	}
	require.False(t, closed(conns[0]), "it's kept")
	p.close()
	require.True(t, closed(conns[0]))
	_, _, err := p.get(t.Context(), creds)
	require.ErrorContains(t, err, "stopping")
}

func TestPoolKeepsNoFailure(t *testing.T) {
	d := &dials{err: errors.New("refused")}
	p := newPool(d.dial)
	creds := &Credentials{}
	_, _, err := p.get(t.Context(), creds)
	require.ErrorContains(t, err, "refused")
	d.err = nil
	_, release, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	release()
	require.EqualValues(t, 2, d.count.Load())
	p.close()
}

func TestPoolRetiresWhatIsInUse(t *testing.T) {
	d := &dials{}
	p := newPool(d.dial)
	defer p.close()
	creds := &Credentials{}
	first, releaseFirst, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	p.retire(creds)
	p.retire(creds)
	require.False(t, closed(first), "somebody works with it")
	second, releaseSecond, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	require.NotSame(t, first, second)
	releaseFirst()
	require.True(t, closed(first))
	releaseSecond()
	require.False(t, closed(second), "this one isn't retired")
	p.retire(creds)
	require.True(t, closed(second))
}

// Several notice that one connection broke, some of them late.
func TestPoolDiscardsABrokenConnectionOnce(t *testing.T) {
	d := &dials{}
	p := newPool(d.dial)
	defer p.close()
	creds := &Credentials{}
	broken, releaseOne, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	_, releaseOther, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	p.discard(creds, broken)
	releaseOne()
	healthy, release, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	release()
	p.discard(creds, broken)
	releaseOther()
	require.True(t, closed(broken))
	require.False(t, closed(healthy))
	again, release, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	release()
	require.Same(t, healthy, again)
	require.EqualValues(t, 2, d.count.Load())
}

// A replaced identity may be in use for a moment longer, and nobody retires its
// connection again.
func TestPoolKeepsNoConnectionOfAnEndedIdentity(t *testing.T) {
	p := newPool((&dials{}).dial)
	defer p.close()
	creds, other := &Credentials{}, &Credentials{}
	p.end(creds)
	conn, release, err := p.get(t.Context(), creds)
	require.NoError(t, err)
	require.False(t, closed(conn))
	require.Empty(t, p.entries)
	release()
	require.True(t, closed(conn))
	_, release, err = p.get(t.Context(), other)
	require.NoError(t, err)
	release()
	require.Len(t, p.entries, 1)
}

// Whoever dials and gives up isn't a reason for the others.
func TestPoolDialIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{hold: make(chan struct{})}
		p := newPool(func(ctx context.Context, creds *Credentials) (*client.Client, error) {
			clt, err := d.dial(ctx, creds)
			if err == nil {
				_ = clt.Close()
				clt = &client.Client{}
			}
			return clt, err
		})
		creds := &Credentials{}
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { _, _, err := p.get(ctx, creds); first <- err }()
		synctest.Wait()
		second := make(chan error, 1)
		go func() { _, _, err := p.get(t.Context(), creds); second <- err }()
		impatient, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, _, err := p.get(impatient, creds)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, <-first, context.Canceled)
		require.EqualValues(t, 2, d.count.Load())
		close(d.hold)
		require.NoError(t, <-second)
	})
}

func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cached[int]{age: 10 * time.Second}
		fetches := 0
		get := func() (int, error) {
			return c.get(t.Context(), func(context.Context) (int, error) { fetches++; return fetches, nil })
		}
		for _, want := range []int{1, 1} {
			got, err := get()
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		time.Sleep(10 * time.Second)
		got, _ := get()
		require.Equal(t, 2, got)
		c.forget()
		got, _ = get()
		require.Equal(t, 3, got)
	})
}

func TestCachedSharesOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cached[int]{age: 10 * time.Second}
		fetches := 0
		fail := func(context.Context) (int, error) {
			fetches++
			time.Sleep(30 * time.Second)
			return 0, errors.New("no answer")
		}
		began := time.Now()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				_, err := c.get(t.Context(), fail)
				require.ErrorContains(t, err, "no answer")
			})
		}
		group.Wait()
		require.Equal(t, 30*time.Second, time.Since(began), "fifty don't wait one after the other")
		require.Equal(t, 1, fetches)
		_, err := c.get(t.Context(), fail)
		require.Error(t, err)
		require.Equal(t, 2, fetches, "a failure isn't kept")
	})
}

func TestCachedIsForgottenWhileItIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cached[string]{age: time.Minute}
		go func() {
			_, _ = c.get(t.Context(), func(context.Context) (string, error) {
				time.Sleep(time.Second)
				return "old", nil
			})
		}()
		synctest.Wait()
		c.forget()
		got, err := c.get(t.Context(), func(context.Context) (string, error) { return "new", nil })
		require.NoError(t, err)
		require.Equal(t, "new", got)
		time.Sleep(2 * time.Second)
		got, err = c.get(t.Context(), func(context.Context) (string, error) { return "newer", nil })
		require.NoError(t, err)
		require.Equal(t, "new", got)
	})
}

func TestCachedFetchIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cached[int]{age: time.Minute}
		fetch := func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Minute):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { _, err := c.get(ctx, fetch); first <- err }()
		synctest.Wait()
		second := make(chan int, 1)
		go func() { got, _ := c.get(t.Context(), fetch); second <- got }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		require.Equal(t, 7, <-second)
	})
}

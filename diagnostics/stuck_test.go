package diagnostics

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServerThatHangs has an answer wait for something that never comes.
func TestServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		board := NewBoard(time.Now)
		server := NewServer(ServerOptions{
			Board: board, Registry: NewRegistry(board, Build{}), Log: slog.New(slog.DiscardHandler),
			Agent: func() Agent { <-release; return Agent{} },
		})
		handler := server.handler()
		ask := func(path string) int {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
			return answer.Code
		}
		var asking sync.WaitGroup
		asking.Go(func() { ask("/status") })
		time.Sleep(stuckAfter)
		require.NoError(t, server.Alive())
		time.Sleep(time.Second)
		require.Equal(t, http.StatusOK, ask("/livez"), "others are answered")
		require.EqualError(t, server.Alive(), "stuck for 10m1s while answering a request")
		close(release)
		asking.Wait()
		require.NoError(t, server.Alive())
	})
}

// TestServerWithSlowAnswers has an answer that may take longer than the others.
func TestServerWithSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		board := NewBoard(time.Now)
		server := NewServer(ServerOptions{
			Board: board, Registry: NewRegistry(board, Build{}), Log: slog.New(slog.DiscardHandler),
			More:       map[string]http.Handler{"POST /slow": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })},
			MoreWithin: time.Hour,
		})
		var asking sync.WaitGroup
		asking.Go(func() {
			server.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/slow", nil))
		})
		time.Sleep(time.Hour)
		require.NoError(t, server.Alive(), "it may take that long")
		time.Sleep(time.Second)
		require.Error(t, server.Alive())
		close(release)
		asking.Wait()
	})
}

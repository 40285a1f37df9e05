// Command web is a small static web server that stands in the tests' containers
// where a user has an application (RabbitMQ's management page, say). It answers
// every request with one text. It needs nothing of its image: no libraries, no
// shell.
//
//	web [-listen :15672[,ADDR …]] [-text TEXT]
//	web -probe URL
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("web", flag.ContinueOnError)
	listen := flags.String("listen", ":15672", "addresses to listen on, separated by commas")
	text := flags.String("text", "", "what every request is answered with; empty: the host's name")
	probe := flags.String("probe", "", "ask this URL once and exit: 0 if it answers 200 (a health check)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *probe != "" {
		return ask(*probe)
	}
	if *text == "" {
		*text, _ = os.Hostname()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\n%s %s\n", *text, r.Method, r.URL.Path)
	})}
	var serving sync.WaitGroup
	for addr := range strings.SplitSeq(*listen, ",") {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Fprintf(os.Stderr, "web: %v\n", err)
			return 1
		}
		fmt.Printf("listening on %s\n", listener.Addr())
		serving.Go(func() { _ = server.Serve(listener) })
	}
	<-ctx.Done()
	_ = server.Close()
	serving.Wait()
	return 0
}

// ask is the health check, from inside the container.
func ask(url string) int {
	response, err := (&http.Client{Timeout: 2 * time.Second}).Get(url)
	if err != nil {
		return 1
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

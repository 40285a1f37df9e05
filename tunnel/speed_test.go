package tunnel

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// largeBody is the size of a large body, in bytes.
const largeBody = 8 << 20

// speedUpstream is a TLS server that does as little as can be, so that what is
// measured is what stands in front of it. It answers GET /N with N bytes, and
// anything else with none when it has read the body.
func speedUpstream(b *testing.B) (addr string) {
	b.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.StartTLS()
	cert := server.TLS.Certificates[0]
	server.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	require.NoError(b, err)
	b.Cleanup(func() { _ = listener.Close() })
	filler := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerAll(conn, filler)
		}
	}()
	return listener.Addr().String()
}

// answerAll serves one connection until its end.
func answerAll(conn net.Conn, filler []byte) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 64<<10)
	var head []byte
	for {
		method, size, left, err := readHead(reader)
		if err != nil {
			return
		}
		if left < 0 {
			_, err = io.Copy(io.Discard, httputil.NewChunkedReader(reader))
			_, _ = reader.Discard(len("\r\n"))
		} else {
			_, err = io.CopyN(io.Discard, reader, left)
		}
		if err != nil {
			return
		}
		if method != http.MethodGet {
			size = 0
		}
		head = fmt.Appendf(head[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n", size)
		head = append(head, filler[:min(size, 1<<10)]...)
		if _, err := conn.Write(head); err != nil {
			return
		}
		for size -= min(size, 1<<10); size > 0; size -= min(size, len(filler)) {
			if _, err := conn.Write(filler[:min(size, len(filler))]); err != nil {
				return
			}
		}
	}
}

// readHead reads the first line and the header of a message, and returns the
// line's first word, the number in its second, and the length of the body; -1:
// it's in chunks.
func readHead(reader *bufio.Reader) (word string, number int, length int64, err error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", 0, 0, err
	}
	word, rest, _ := strings.Cut(line, " ")
	digits, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), " ")
	number, _ = strconv.Atoi(digits)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil || len(line) <= 2 {
			return word, number, length, err
		}
		if bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked")) {
			length = -1
		}
		if name := []byte("Content-Length: "); bytes.HasPrefix(line, name) {
			length, _ = strconv.ParseInt(string(bytes.TrimSpace(line[len(name):])), 10, 64)
		}
	}
}

// rawProxy copies bytes both ways over a TLS connection for each of the
// client's, which is the least that can be done.
func rawProxy(b *testing.B, upstream string) (addr string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { _ = listener.Close() })
	session := &fakeSession{addr: upstream, serial: "raw"}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := tls.Dial("tcp", upstream, session.config())
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return listener.Addr().String()
}

// tunnelProxy is the tunnel as it's used.
func tunnelProxy(b *testing.B, upstream string) (addr string) {
	b.Helper()
	return strings.TrimPrefix(run(b, upstream, nil).Address(), "tcp://")
}

// BenchmarkCarry measures the tunnel beside a raw copy of bytes. The time that
// counts is the CPU's, of client, proxy and server together: the difference is
// the tunnel's own.
func BenchmarkCarry(b *testing.B) {
	proxies := []struct {
		name  string
		start func(*testing.B, string) string
	}{{"raw", rawProxy}, {"tunnel", tunnelProxy}}
	loads := []struct {
		name, method string
		answer, body int
		chunk        int
	}{
		{"small", http.MethodGet, 100, 0, 0},
		{"download", http.MethodGet, largeBody, 0, 0},
		{"upload", http.MethodPost, 0, largeBody, 0},
		// As a Go client sends what it doesn't know the length of.
		{"chunks", http.MethodPost, 0, largeBody, 32 << 10},
	}
	for _, load := range loads {
		for _, proxy := range proxies {
			b.Run(load.name+"/"+proxy.name, func(b *testing.B) {
				addr := proxy.start(b, speedUpstream(b))
				message := fmt.Appendf(nil, "%s /%d HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n", load.method, load.answer)
				switch {
				case load.chunk > 0:
					message = append(message, "Transfer-Encoding: chunked\r\n\r\n"...)
					for range load.body / load.chunk {
						message = fmt.Appendf(message, "%x\r\n%s\r\n", load.chunk, make([]byte, load.chunk))
					}
					message = append(message, "0\r\n\r\n"...)
				case load.body > 0:
					message = fmt.Appendf(message, "Content-Length: %d\r\n\r\n", load.body)
					message = append(message, make([]byte, load.body)...)
				default:
					message = append(message, "\r\n"...)
				}
				b.SetBytes(int64(load.answer + load.body))
				b.ReportAllocs()
				b.SetParallelism(8)
				began := cpuTime(b)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) { converse(b, pb, addr, message, load.answer) })
				b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// converse sends the message and reads the answer, again and again.
func converse(b *testing.B, pb *testing.PB, addr string, message []byte, want int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 64<<10)
	for pb.Next() {
		if _, err := conn.Write(message); err != nil {
			b.Error(err)
			return
		}
		_, status, length, err := readHead(reader)
		if err != nil || status != http.StatusOK || length != int64(want) {
			b.Errorf("answer %d with %d bytes: %v", status, length, err)
			return
		}
		if _, err := io.CopyN(io.Discard, reader, length); err != nil {
			b.Error(err)
			return
		}
	}
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

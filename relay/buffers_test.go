package relay

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// logText collects a log.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) lines(with string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

// Buffers that the kernel has not granted in full are logged, and others are not.
func TestSmallBuffersAreLogged(t *testing.T) {
	enterNetns(t)
	var log logText
	r := start(t, func(s *Settings) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, name := range []string{"a", "b"} {
		newTurner(t, relayAt(loop4, r), name).allocate()
	}
	if n := log.lines("socket buffers"); n != 0 {
		t.Errorf("%d lines about buffers that were granted", n)
	}
	socket := r.workers[0].listen4
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(socket.Fd(), unix.SOL_SOCKET, option, listenBuffer/2); err != nil {
			t.Fatal(err)
		}
	}
	r.reportListening()
	if n := log.lines("sockets=listening want=7340032 receive=3670016 send=3670016"); n != 1 {
		t.Errorf("%d lines about listening sockets: %s", n, log.text.String())
	}
}

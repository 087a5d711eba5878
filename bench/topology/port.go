package topology

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// AwaitPort waits until something in the process's namespace listens on the port of the
// protocol ("tcp" or "udp"), either IP version.
func (p *Process) AwaitPort(ctx context.Context, protocol string, port uint16) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for !p.listens(protocol, port) {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once: %v%s", p.name(), p.err, p.logged())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s port %d: %w", p.name(), protocol, port, context.Cause(ctx))
		case <-time.After(pollEvery):
		}
	}
	return nil
}

func (p *Process) listens(protocol string, port uint16) bool {
	for _, file := range []string{protocol, protocol + "6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.PID(), file))
		if err == nil && listening(string(b), protocol, port) {
			return true
		}
	}
	return false
}

// listening reads a table like /proc/net/tcp: the second field is the local address with the port in
// hex, the fourth the state, which is 0A for a listening TCP socket and 07 for an unconnected UDP one.
func listening(table, protocol string, port uint16) bool {
	state := map[string]string{"tcp": "0A", "udp": "07"}[protocol]
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], suffix) && f[3] == state {
			return true
		}
	}
	return false
}

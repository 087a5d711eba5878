package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestMetricsOfARunningInterface scrapes the program while its link is up: counters of every
// part must be there.
func TestMetricsOfARunningInterface(t *testing.T) {
	const addr = "127.0.0.1:9586"
	setUp(t, "lo")
	p := foreground(t, program(t, nil, "firelane", "wg", "-f", "--metrics", addr, "wg0"), "wg0")
	setUp(t, "wg0")
	var body string
	await(t, "woken worker", func() bool {
		body = scrape(t, addr, "/metrics")
		return strings.Contains(body, `firelane_carried_total{figure="Turns"}`) && !strings.Contains(body, `firelane_carried_total{figure="Wakeups"} 0`+"\n")
	})
	for _, name := range []string{
		`firelane_packets_dropped_total{verdict="DropReplay"} 0`,
		`firelane_packets_dropped_total{verdict="DropPuntFull"} 0`,
		`firelane_socket_total{counter="RecvOverflow"} 0`,
		`firelane_socket_total{counter="SendOther"} 0`,
		`firelane_tunnel_total{counter="WriteBlocked"} 0`,
		`firelane_control_lost_total{counter="KeptOverflow"} 0`,
		`firelane_handshake_dropped_total{reason="DropMac1"} 0`,
		`firelane_pool_exhausted_total 0`,
		`firelane_peers 0`, `firelane_sessions 0`, `firelane_jobs_waiting 0`,
	} {
		if !strings.Contains(body, name+"\n") {
			t.Errorf("no line %q in\n%s", name, body)
		}
	}
	if body := scrape(t, addr, "/healthz"); body != "ok\n" {
		t.Errorf("health: %q", body)
	}
	p.signal(syscall.SIGTERM)
	p.ended()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("something still answers at the metrics address")
	}
}

// TestCountersAreLoggedOnASignalAndAtTheEnd sends SIGUSR1, which must not end the program.
func TestCountersAreLoggedOnASignalAndAtTheEnd(t *testing.T) {
	c := program(t, []string{"LOG_LEVEL=info"}, "firelane", "wg", "-f", "wg0")
	out, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer", func() bool { return ask("wg0") == nil })
	var log bytes.Buffer
	until := func(text string) {
		t.Helper()
		b := make([]byte, 1)
		for !strings.Contains(log.String(), text) {
			if n, err := out.Read(b); n == 0 {
				t.Fatalf("%v, no %q in %s", err, text, &log)
			}
			log.Write(b)
		}
	}
	if err := c.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until("msg=counters")
	until("firelane_pool_slabs=")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(`msg="data plane ended"`)
	if _, err := io.Copy(&log, out); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, &log)
	}
}

func setUp(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

func scrape(t *testing.T, addr, path string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	r, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %s", r.Status, err, body)
	}
	return string(body)
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"github.com/firelane/firelane/relay"
)

// Without a portal, those who know the secret are served, for as long as their name says.
func TestARelayWithASecretOfItsOwn(t *testing.T) {
	secret := rand.Text()
	r := relayWith(t, nil, "--secret-file", file(t, secret+"\n"), "--max-allocations-per-source", "1")
	r.becomes(http.StatusOK, revision())
	password := func(expires time.Time, secret string) string { return relay.Password(expires.Unix(), secret, "salt") }
	client := func(expires time.Time, secret string) *turnClient {
		return newTURNClient(t, expiringUser(expires, "salt"), password(expires, secret), relay.PortalRealm)
	}
	c := client(tomorrow(), secret)
	if code := c.allocate(); code != 0 {
		t.Fatalf("allocate: %d", code)
	}
	c.exchange()
	if code := client(tomorrow(), "another").allocate(); code != 401 {
		t.Errorf("another secret: %d", code)
	}
	past := time.Now().Add(-time.Minute)
	if code := client(past, secret).allocate(); code != 401 {
		t.Errorf("an expired name: %d", code)
	}
	later := tomorrow().Add(time.Hour)
	if code := client(later, secret).allocate(); code != 486 {
		t.Errorf("beyond the bound: %d", code)
	}
	if got := r.metric(`relay_responses_total{error_code="486",message_type="allocate",response_class="error"}`); got != "1" {
		t.Errorf("%q refusals at the bound are counted", got)
	}
	if got := r.metric(`relay_limit{limit="allocations_per_source"}`); got != "1" {
		t.Errorf("the bound is shown as %q", got)
	}
	c.release()
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
}

// What is beyond a limit is counted where the documentation says.
func TestLimitsAreCounted(t *testing.T) {
	r := relayWith(t, nil, "--users-file", file(t, "user:password"), "--max-bindings-per-second", "1", "--max-refusals-per-second", "1",
		"--max-channels-per-allocation", "1")
	c := newTURNClient(t, "user", "password", relay.DefaultRealm)
	if code := c.allocate(); code != 0 {
		t.Fatalf("allocate: %d", code)
	}
	// Another socket of the same address: a client with an allocation is answered all its Bindings.
	stranger := newTURNClient(t, "user", "password", relay.DefaultRealm)
	flood := func(from *turnClient, metric string, message []byte) {
		t.Helper()
		await(t, metric, func() bool {
			for range 10 {
				from.send(message)
			}
			return r.metric(metric) != "0"
		})
	}
	binding := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	flood(stranger, "relay_drops_binding_rate_total", binding)
	refresh := append([]byte{0, 4, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	flood(stranger, "relay_drops_refusal_rate_total", refresh)
	flood(c, `relay_dropped_total{reason="DropUnboundChannel"}`, []byte{0x40, 0, 0, 0})
	flood(c, `relay_dropped_total{reason="DropUnknown"}`, []byte{0xff, 0, 0, 0})
}

// The level of the log changes at run time, and the log is what was asked for.
func TestTheLogCanBeTurnedUp(t *testing.T) {
	r := relayWith(t, []string{"RUST_LOG=warn,firezone_relay", "LOG_FORMAT=json", "EBPF_OFFLOADING=eth0"}, "--users-file", file(t, "user:password"))
	for _, c := range []struct {
		method, query string
		want          int
	}{
		{"GET", "?directives=debug", http.StatusMethodNotAllowed}, {"POST", "", http.StatusBadRequest},
		{"POST", "?directives=loud", http.StatusBadRequest}, {"POST", "?directives=info,h2%3Dwarn", http.StatusOK},
	} {
		req, err := http.NewRequest(c.method, "http://127.0.0.1:9999/log_filter"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %q: %d, want %d", c.method, c.query, resp.StatusCode, c.want)
		}
	}
	r.signal(syscall.SIGUSR1)
	await(t, "counters in the log", func() bool { return strings.Contains(r.stderr.String(), `"counters"`) })
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
	var messages []string
	for line := range strings.Lines(r.stderr.String()) {
		var m struct{ Msg, Option string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		messages = append(messages, m.Msg+m.Option)
	}
	// The relay starts while its endpoints answer already, so that this line may come anywhere.
	messages = slices.DeleteFunc(messages, func(m string) bool { return m == "relay started" })
	if got := strings.Join(messages, "|"); got != "option has no effect--ebpf-offloading|option has no effectRUST_LOG=firezone_relay|counters|relay drains|relay ended" {
		t.Errorf("the log says %s", got)
	}
}

func TestTheMachineRefusesARelay(t *testing.T) {
	setUpRelayHost(t)
	users := file(t, "user:password")
	taken, err := net.ListenPacket("udp4", "0.0.0.0:3478")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:9998")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a port in use", nil, "UDP port 3478 is in use: end the program that has it, or choose another by --listen-port"},
		{"an address of another host", []string{"--bind-ip4-addr", "198.51.100.1", "--listen-port", "3479"}, "this host does not have the address of --bind-ip4-addr"},
		{"a health address in use", []string{"--health-check-addr", "127.0.0.1:9998"}, "TCP 127.0.0.1:9998 is in use"},
		{"a control address in use", []string{"--control-endpoint", "127.0.0.1:9998"}, "TCP 127.0.0.1:9998 is in use"},
		{"a metrics address of another host", []string{"--metrics", "198.51.100.1:1"}, "listen tcp 198.51.100.1:1: bind: cannot assign"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"firelane", "relay", "--users-file", users, "--public-ip4-addr", relayPublic, "--no-raise-limits"}, c.args...)
			if line := refused(t, program(t, nil, args...), exitFailed); !strings.HasPrefix(line, "firelane: "+c.want) {
				t.Errorf("got  %s\nwant firelane: %s", line, c.want)
			}
		})
	}
}

// coturn's client picks channel numbers that RFC 8656 takes back from RFC 5766 three times in
// four, and is refused then; otherwise what it sends to a peer comes back in full.
func TestCoturnsClientsAgainstTheProgram(t *testing.T) {
	relayWith(t, nil, "--users-file", file(t, "user:password"))
	peer := echoPeer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "turnutils_stunclient", relayPublic).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("reflexive addr: "+relayPublic)) {
		t.Errorf("%v: %s", err, out)
	}
	const tries = 100 // all of them fail once in 10^12
	for range tries {
		out, err = exec.CommandContext(ctx, "turnutils_uclient", "-u", "user", "-w", "password", "-n", "3", "-c",
			"-e", "127.0.0.1", "-r", strconv.Itoa(peer.Port), relayPublic).CombinedOutput()
		if !bytes.Contains(out, []byte("channel bind: error 400")) {
			break
		}
	}
	if err != nil || !bytes.Contains(out, []byte("Total lost packets 0 (0.000000%)")) || !bytes.Contains(out, []byte("tot_recv_bytes ~ 300")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPionsClientAgainstTheProgram(t *testing.T) {
	relayWith(t, nil, "--users-file", file(t, "user:password"))
	peer := echoPeer(t)
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: relayAddr, TURNServerAddr: relayAddr, Conn: conn,
		Username: "user", Password: "password", Realm: relay.DefaultRealm, LoggerFactory: &logging.DefaultLoggerFactory{}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer relayed.Close()
	want, got := []byte("there and back"), make([]byte, 100)
	// What is sent before its channel is bound goes nowhere.
	await(t, "echo", func() bool {
		if _, err := relayed.WriteTo(want, peer); err != nil {
			t.Fatal(err)
		}
		if err := relayed.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, _, err := relayed.ReadFrom(got)
		return err == nil && bytes.Equal(got[:n], want)
	})
}

// echoPeer opens a peer that returns what it gets.
func echoPeer(t *testing.T) *net.UDPAddr {
	t.Helper()
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return
			}
			peer.WriteTo(buf[:n], from)
		}
	}()
	return peer.LocalAddr().(*net.UDPAddr)
}

// The sockets of many allocations do not delay the end.
func TestARelayWithManyAllocationsEndsSoon(t *testing.T) {
	r := relayWith(t, nil, "--users-file", file(t, "user:password"), "--max-refusals-per-second", "0")
	const many = 1000
	for i := range many {
		if code := newTURNClient(t, "user", "password", relay.DefaultRealm).allocate(); code != 0 {
			t.Fatalf("allocation %d: %d", i, code)
		}
	}
	if got := r.metric("relay_active_allocations"); got != strconv.Itoa(many) {
		t.Errorf("%s allocations", got)
	}
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
}

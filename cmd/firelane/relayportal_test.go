package main

import (
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/signal"
	"github.com/firelane/firelane/protocol/stun"
)

// joining starts a relay of a portal.
func joining(t *testing.T, p *fakePortal, args ...string) *runningRelay {
	t.Helper()
	return relayWith(t, []string{"FIREZONE_TOKEN= to\nken ", "FIREZONE_NAME=relay a"}, append([]string{"--api-url", "ws://" + p.addr + "/"}, args...)...)
}

// tomorrow is when the credentials of these tests expire.
func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// A relay that starts before its portal serves STUN at once, is not ready, and joins with exactly
// what a portal expects when it comes up. Who has credentials from the portal is served; nobody
// else is.
func TestARelayJoinsItsPortal(t *testing.T) {
	p := newFakePortal(t)
	r := joining(t, p, "--public-ip6-addr", "2001:db8::1")
	r.becomes(http.StatusServiceUnavailable, "not joined to the portal")
	bindingWorks(t)
	if got := r.metric("relay_portal_joined"); got != "0" {
		t.Errorf("relay_portal_joined is %q", got)
	}
	p.up()
	r.becomes(http.StatusOK, revision())

	p.mu.Lock()
	up := p.upgrades[len(p.upgrades)-1]
	p.mu.Unlock()
	if got := up.URL.String(); got != "/relay/websocket?name=relay+a&ipv4=192.0.2.1&ipv6=2001%3Adb8%3A%3A1&port=3478" {
		t.Errorf("upgrade of %s", got)
	}
	if got := up.Header.Get("X-Authorization"); got != "Bearer token" || up.Header.Get("Authorization") != "" {
		t.Errorf("authorized by %q", got)
	}
	if got := up.Header.Get("User-Agent"); !regexp.MustCompile(`^\S+/\S+ relay/\d+\.\d+\.\d+\S* \(\S+; \S+\)$`).MatchString(got) {
		t.Errorf("user agent %q", got)
	}
	stamp := p.stamps()[0]
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(stamp.Reveal()) {
		t.Errorf("stamp secret of %d characters", len(stamp.Reveal()))
	}

	c := clientOf(t, stamp, 1, tomorrow())
	if code := c.allocate(); code != 0 {
		t.Fatalf("allocate: %d", code)
	}
	c.exchange()
	wrong := clientOf(t, signal.NewSecret(strings.Repeat("0", 64)), 2, tomorrow())
	if code := wrong.allocate(); code != 401 {
		t.Errorf("credentials from another secret: %d", code)
	}
	if code := clientOf(t, stamp, 3, time.Now().Add(-time.Minute)).allocate(); code != 401 {
		t.Errorf("expired credentials: %d", code)
	}
	for name, want := range map[string]string{
		"relay_active_allocations": "1", "relay_bound_channels": "1", "relay_portal_joined": "1",
		`relay_portal_total{counter="Joins"}`:                                                    "1",
		`relay_carried_total{figure="ToPeers"}`:                                                  "1",
		`relay_responses_total{error_code="",message_type="allocate",response_class="success"}`:  "1",
		`relay_responses_total{error_code="401",message_type="allocate",response_class="error"}`: "5",
	} {
		if got := r.metric(name); got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
	if log := r.stderr.String(); strings.Contains(log, stamp.Reveal()) || strings.Contains(log, "token=") {
		t.Error("there is a secret in the log")
	}
}

// Allocations outlive the portal, credentials outlive its restart, and a relay that starts anew is
// another one.
func TestThePortalGoesAwayAndComesBack(t *testing.T) {
	p := newFakePortal(t)
	p.up()
	r := joining(t, p)
	r.becomes(http.StatusOK, revision())
	c := clientOf(t, p.stamps()[0], 1, tomorrow())
	if code := c.allocate(); code != 0 {
		t.Fatalf("allocate: %d", code)
	}
	p.down()
	r.becomes(http.StatusServiceUnavailable, "not joined to the portal")
	c.exchange()
	if code := clientOf(t, p.stamps()[0], 2, tomorrow()).allocate(); code != 0 {
		t.Errorf("allocate without a portal: %d", code)
	}
	p.up()
	r.becomes(http.StatusOK, revision())
	if m := c.ask(stun.Refresh, func(*stun.Builder) {}); m.Class != stun.Success {
		t.Errorf("refresh: %d", m.Code)
	}
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
	again := joining(t, p)
	again.becomes(http.StatusOK, revision())
	stamps := p.stamps()
	if len(stamps) != 3 || !stamps[0].Equal(stamps[1]) || stamps[0].Equal(stamps[2]) {
		t.Errorf("%d joins: the first two must have one secret, the third another", len(stamps))
	}
}

func TestAPortalRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		refusal *signal.Refusal
		reason  string
		want    string
	}{
		{"the token", refusal(401, signal.CodeInvalidToken, "The token has expired"), "", "portal: token is invalid or expired: The token has expired"},
		{"the join", nil, "disabled", "portal: portal refuses the login: disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newFakePortal(t)
			p.refusal, p.reason = c.refusal, c.reason
			p.up()
			setUpRelayHost(t)
			line := refused(t, program(t, []string{"LOG_LEVEL=silent", "FIREZONE_TOKEN=token"}, "firelane", "relay", "--no-raise-limits",
				"--public-ip4-addr", relayPublic, "--api-url", "http://"+p.addr), exitFailed)
			if line != "firelane: "+c.want {
				t.Errorf("got  %s\nwant firelane: %s", line, c.want)
			}
		})
	}
}

func refusal(status int, code, detail string) *signal.Refusal {
	r := signal.NewRefusal(status, http.StatusText(status), code, detail)
	return &r
}

// After the signal a relay leaves the portal and takes no new clients, serves those it has, and
// ends with the last of them.
func TestARelayDrains(t *testing.T) {
	p := newFakePortal(t)
	p.up()
	r := joining(t, p, "--drain-timeout", "30s")
	r.becomes(http.StatusOK, revision())
	stamp := p.stamps()[0]
	c := clientOf(t, stamp, 1, tomorrow())
	if code := c.allocate(); code != 0 {
		t.Fatalf("allocate: %d", code)
	}
	r.signal(syscall.SIGTERM)
	r.becomes(http.StatusServiceUnavailable, "draining")
	await(t, "end of the link", func() bool { return p.closings() == 1 })
	if code := clientOf(t, stamp, 2, tomorrow()).allocate(); code != 508 {
		t.Errorf("a new client while draining: %d, want 508", code)
	}
	c.exchange()
	c.release()
	r.ends(endsWithin, "")
	if n := len(p.stamps()); n != 1 {
		t.Errorf("%d joins", n)
	}
}

func TestADrainIsBounded(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		signals []syscall.Signal
		least   time.Duration
	}{
		{"by a second signal", []string{"--drain-timeout", "30s"}, []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, 0},
		{"by its time", []string{"--drain-timeout", "300ms"}, []syscall.Signal{syscall.SIGTERM}, 300 * time.Millisecond},
		{"by nothing asked for", nil, []syscall.Signal{syscall.SIGINT}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newFakePortal(t)
			p.up()
			r := joining(t, p, c.args...)
			r.becomes(http.StatusOK, revision())
			if code := clientOf(t, p.stamps()[0], 1, tomorrow()).allocate(); code != 0 {
				t.Fatalf("allocate: %d", code)
			}
			began := time.Now()
			for i, sig := range c.signals {
				if i > 0 {
					r.becomes(http.StatusServiceUnavailable, "draining")
				}
				r.signal(sig)
			}
			r.ends(c.least+endsWithin, "")
			if took := time.Since(began); took < c.least {
				t.Errorf("ended after %v", took)
			}
			await(t, "end of the link", func() bool { return p.closings() == 1 })
		})
	}
}

func TestARelayGivesUpOnItsPortalAfterItsTime(t *testing.T) {
	p := newFakePortal(t)
	p.up()
	r := joining(t, p, "--max-partition-time", "1ms")
	r.becomes(http.StatusOK, revision())
	p.down()
	r.ends(patience, "portal: portal is out of reach for too long: ")
}

// A portal that does not answer the farewell does not keep a relay.
func TestAPortalThatHangsDoesNotDelayTheEnd(t *testing.T) {
	p := newFakePortal(t)
	p.hang = make(chan struct{})
	defer close(p.hang)
	p.up()
	r := joining(t, p)
	r.becomes(http.StatusOK, revision())
	r.signal(syscall.SIGTERM)
	r.ends(endsWithin, "")
}

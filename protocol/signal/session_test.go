package signal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// script drives a session over virtual time.
type script struct {
	t   testing.TB
	s   *Session
	now time.Time
	out SessionOutput
}

func newScript(t testing.TB, c SessionConfig) *script {
	t.Helper()
	p := &script{t: t, now: epoch}
	p.s = NewSession(c, p.now)
	p.drain()
	if !p.out.Dial {
		t.Fatal("a new session does not dial")
	}
	return p
}

func (p *script) drain() { p.s.Drain(&p.out) }

// wait advances to the next timeout, whose reason must be why, and returns how long that took.
func (p *script) wait(why string) time.Duration {
	p.t.Helper()
	at, got, ok := p.s.NextTimeout()
	if !ok || got != why {
		p.t.Fatalf("waits for %q, want %q", got, why)
	}
	d := at.Sub(p.now)
	p.now = at
	p.s.HandleTimeout(p.now)
	p.drain()
	return d
}

func (p *script) open() {
	p.t.Helper()
	p.s.HandleOpen(p.now)
	p.drain()
}

func (p *script) frame(text string) {
	p.s.HandleFrame([]byte(text), p.now)
	p.drain()
}

// join opens and joins.
func (p *script) join() {
	p.t.Helper()
	p.open()
	p.frame(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`)
	if p.s.State() != Joined {
		p.t.Fatalf("state %v after join", p.s.State())
	}
}

func (p *script) frames() string {
	var all []string
	for _, f := range p.out.Frames {
		all = append(all, string(f))
	}
	return strings.Join(all, "\n")
}

func (p *script) messages() string {
	var all []string
	for _, m := range p.out.Messages {
		all = append(all, m.Event())
	}
	return strings.Join(all, " ")
}

func (p *script) want(what, got, want string) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

func (p *script) fatal(kind FatalKind) {
	p.t.Helper()
	if p.s.State() != Ended || !p.out.Over || p.out.Fatal == nil || p.out.Fatal.Kind != kind {
		p.t.Fatalf("state %v, fatal %v, want kind %d", p.s.State(), p.out.Fatal, kind)
	}
	if _, why, ok := p.s.NextTimeout(); ok {
		p.t.Fatalf("still waits for %q", why)
	}
}

func TestSessionJoinsBeatsAndSends(t *testing.T) {
	p := newScript(t, SessionConfig{})
	p.open()
	p.want("on open", p.frames(), `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
	if err := p.s.Send(NoRelays{}, p.now); !errors.Is(err, ErrNotJoined) {
		t.Fatalf("sent before the join: %v", err)
	}
	p.frame(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`)
	p.want("on join", p.messages(), "(connected)")
	if err := p.s.Send(Capabilities{ICEless: true}, p.now); err != nil {
		t.Fatal(err)
	}
	p.drain()
	p.want("capabilities", p.frames(), `{"topic":"gateway","event":"set_snownet_capabilities","payload":{"iceless":true},"ref":1}`)
	if d := p.wait("heartbeat"); d != 10*time.Second {
		t.Fatalf("first heartbeat after %v", d)
	}
	p.want("heartbeat", p.frames(), `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":2}`)
	p.frame(`{"event":"phx_reply","topic":"phoenix","ref":2,"payload":{"status":"ok","response":{}}}`)
	for range 100 {
		p.wait("heartbeat")
		p.frame(`{"event":"phx_reply","topic":"phoenix","ref":` + fmt.Sprint(p.s.ref-1) + `,"payload":{"status":"ok","response":{}}}`)
	}
	if p.s.State() != Joined {
		t.Fatalf("state %v after a hundred answered heartbeats", p.s.State())
	}
}

func TestSessionLeavesADeadPortal(t *testing.T) {
	p := newScript(t, SessionConfig{})
	p.join()
	start := p.now
	for range 3 {
		p.wait("heartbeat")
	}
	if p.s.State() != Joined {
		t.Fatal("three unanswered heartbeats are too many already")
	}
	p.wait("heartbeat")
	p.want("fourth", p.messages(), "(disconnected)")
	if p.now.Sub(start) != 40*time.Second || p.out.Hangup == nil || p.out.Hangup.Graceful || len(p.out.Frames) > 0 {
		t.Fatalf("after %v: %+v", p.now.Sub(start), p.out)
	}
	if d := p.wait("retry"); d < 500*time.Millisecond || d >= time.Second || !p.out.Dial {
		t.Fatalf("dials %v after %v", p.out.Dial, d)
	}
	p.open()
	p.want("refs start anew", p.frames(), `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
}

func TestSessionFailsFastBeforeTheFirstJoin(t *testing.T) {
	p := newScript(t, SessionConfig{MaxPartition: 24 * time.Hour})
	for i := range 15 {
		p.s.HandleFailed("no route", p.now)
		p.drain()
		p.want("failure", p.messages(), "(disconnected)")
		if d := p.wait("retry"); d != time.Second || !p.out.Dial {
			t.Fatalf("try %d after %v", i, d)
		}
	}
	p.s.HandleFailed("no route", p.now)
	p.drain()
	p.fatal(RetriesSpent)
}

func TestSessionBacksOffWithinThePartition(t *testing.T) {
	const budget = time.Hour
	p := newScript(t, SessionConfig{MaxPartition: budget, Seed: [32]byte{1}})
	p.join()
	p.s.HandleClosed("end of file", p.now)
	p.drain()
	sum, base := time.Duration(0), 500*time.Millisecond
	for !p.out.Over {
		d := p.wait("retry")
		if d < base || d >= 2*base {
			t.Fatalf("delay %v, want one to two of %v", d, base)
		}
		sum += d
		base = min(base*3/2, time.Minute)
		p.s.HandleFailed("no route", p.now)
		p.drain()
	}
	p.fatal(RetriesSpent)
	if sum > budget || sum < budget-2*time.Minute {
		t.Errorf("gave up after %v of %v", sum, budget)
	}
}

func TestSessionNeverGivesUpWithoutBudget(t *testing.T) {
	p := newScript(t, SessionConfig{})
	p.join()
	p.s.HandleClosed("end of file", p.now)
	p.drain()
	for range 5000 {
		p.wait("retry")
		p.s.HandleFailed("no route", p.now)
		p.drain()
	}
	if p.s.State() != Waiting {
		t.Errorf("state %v", p.s.State())
	}
}

func TestSessionHonoursRetryAfterWithoutSpending(t *testing.T) {
	p := newScript(t, SessionConfig{})
	for range 50 {
		p.s.HandleRefused(ParseRefusal(503, "application/problem+json", "7", []byte(`{"code":"rate_limit"}`)), p.now)
		p.drain()
		if d := p.wait("retry"); d != 7*time.Second {
			t.Fatalf("waits %v", d)
		}
	}
	if p.s.State() != Connecting {
		t.Errorf("state %v", p.s.State())
	}
}

func TestRefusals(t *testing.T) {
	problem := func(code string) []byte { return []byte(`{"detail":"Nope","code":"` + code + `"}`) }
	for _, c := range []struct {
		name, media string
		status      int
		body        []byte
		kind        FatalKind
	}{
		{"invalid token", "application/problem+json; charset=utf-8", 401, problem("invalid_token"), TokenInvalid},
		{"missing token", "Application/Problem+JSON", 401, problem("missing_token"), TokenInvalid},
		{"401 with another code", ProblemType, 401, problem("else"), AuthenticationFailed},
		{"401 of another media type", "application/json", 401, problem("invalid_token"), AuthenticationFailed},
		{"401 without a body", "", 401, nil, AuthenticationFailed},
		{"401 with half a body", ProblemType, 401, []byte(`{"code":`), AuthenticationFailed},
		{"bad parameters", ProblemType, 400, problem(CodeInvalidParams), 0},
		{"billing", ProblemType, 402, problem(CodeLimitsExceeded), 0},
		{"forbidden", "text/plain", 403, []byte("Forbidden"), 0},
		{"timeout", "", 408, nil, 0},
		{"connected already", ProblemType, 409, problem(CodeAlreadyConnected), 0},
		{"too many requests", "", 429, nil, 0},
		{"redirect", "", 302, nil, 0},
		{"success is none", "", 200, nil, 0},
		{"broken", "", 500, nil, 0},
	} {
		p := newScript(t, SessionConfig{})
		p.s.HandleRefused(ParseRefusal(c.status, c.media, "", c.body), p.now)
		p.drain()
		if c.kind != 0 {
			p.fatal(c.kind)
		} else if p.s.State() != Waiting {
			t.Errorf("%s: state %v", c.name, p.s.State())
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"", 0, false}, {"soon", 0, false}, {"-1", 0, false}, {"1.5", 0, false},
		{"0", 0, true}, {" 30 ", 30 * time.Second, true}, {"99999999999", 24 * time.Hour, true},
		{"18446744073709551615", 24 * time.Hour, true}, {"18446744073709551616", 0, false},
		{"Tue, 01 Sep 2026 12:00:05 GMT", 5 * time.Second, true},
		{"Tuesday, 01-Sep-26 12:01:00 GMT", time.Minute, true},
		{"Tue Sep  1 12:00:09 2026", 9 * time.Second, true},
		{"Mon, 31 Aug 2026 12:00:05 GMT", 0, true},
		{"Fri, 01 Sep 2226 12:00:05 GMT", 24 * time.Hour, true},
	} {
		got, ok := Refusal{RetryAfter: c.header}.Wait(epoch)
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %v %v", c.header, got, ok)
		}
	}
}

func TestSessionEndings(t *testing.T) {
	const own = `,"topic":"gateway","ref":null}`
	for _, c := range []struct {
		name, frame, messages string
		state                 State
	}{
		{"the channel closes", `{"event":"phx_close","payload":{}` + own, "(disconnected)", Waiting},
		{"the channel closes without topic", `{"event":"phx_close","payload":{}}`, "(disconnected)", Waiting},
		{"another channel closes", `{"event":"phx_close","payload":{},"topic":"other"}`, "", Joined},
		{"the channel crashes", `{"event":"phx_error","payload":{"reason":{}}` + own, "phx_error", Joined},
		{"the token expires", `{"event":"disconnect","payload":{"reason":"token_expired"}` + own, "disconnect", Ended},
		{"another reason", `{"event":"disconnect","payload":{"reason":"certificate_revoked"}` + own, "disconnect", Joined},
		{"no reason", `{"event":"disconnect","payload":{}` + own, "(malformed)", Joined},
		{"the channel is forgotten", `{"event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"topic":"gateway","ref":9}`, "(disconnected)", Joining},
		{"an unknown event", `{"event":"novelty","payload":[1]` + own, "novelty", Joined},
		{"no JSON", `{"event":`, "(malformed)", Joined},
		{"a reply to nothing", `{"event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"gateway","ref":"77"}`, "", Joined},
		{"a late second join reply", `{"event":"phx_reply","payload":{"status":"error","response":{"reason":"no"}},"topic":"gateway","ref":0}`, "", Joined},
	} {
		p := newScript(t, SessionConfig{})
		p.join()
		p.frame(c.frame)
		if p.messages() != c.messages || p.s.State() != c.state {
			t.Errorf("%s: %v, %s", c.name, p.s.State(), p.messages())
		}
		if gone := c.state == Waiting || c.state == Ended; gone != (p.out.Hangup != nil) {
			t.Errorf("%s: hangup %v", c.name, p.out.Hangup)
		}
	}
}

func TestSessionJoinFailures(t *testing.T) {
	p := newScript(t, SessionConfig{Role: RoleRelay, Join: Join{StampSecret: stampSecret}})
	p.open()
	p.want("join", p.frames(), `{"topic":"relay","event":"phx_join","payload":{"stamp_secret":"`+stampSecret.Reveal()+`"},"ref":0}`)
	if d := p.wait("join"); d != 5*time.Second || p.out.Hangup == nil || p.s.State() != Waiting {
		t.Fatalf("after %v: %v", d, p.s.State())
	}
	p.wait("retry")
	if d := p.wait("connect"); d != 15*time.Second || p.out.Hangup == nil || p.s.State() != Waiting {
		t.Fatalf("after %v: %v", d, p.s.State())
	}
	p.wait("retry")
	p.open()
	p.frame(`{"event":"phx_reply","payload":{"status":"error","response":{"reason":"join crashed"}},"topic":"relay","ref":0}`)
	p.fatal(JoinRefused)
	p.frame(`{"event":"init","payload":{},"topic":"relay","ref":null}`)
	p.want("after the end", p.messages(), "")
}

func TestSessionReportsRejectedMessages(t *testing.T) {
	p := newScript(t, SessionConfig{})
	p.join()
	for range 2 * maxSent {
		if err := p.s.Send(AuthorizationApplied{Ref: "r"}, p.now); err != nil {
			t.Fatal(err)
		}
	}
	p.drain()
	if len(p.s.sent) != maxSent {
		t.Fatalf("%d messages wait for a reply", len(p.s.sent))
	}
	p.frame(`{"event":"phx_reply","payload":{"status":"error","response":{"reason":"invalid_ref"}},"topic":"gateway","ref":1}`)
	p.want("reply to a forgotten message", p.messages(), "")
	p.frame(`{"event":"phx_reply","payload":{"status":"error","response":{"reason":"invalid_ref"}},"topic":"gateway","ref":128}`)
	p.want("refusal", p.messages(), "(rejected)")
	if m := p.out.Messages[0]; m != (Rejected{Name: "authorization_created", Reason: "invalid_ref"}) {
		t.Errorf("got %+v", m)
	}
}

func TestSessionReconnectsOnDemand(t *testing.T) {
	p := newScript(t, SessionConfig{})
	p.join()
	p.s.Reconnect(p.now)
	p.drain()
	if p.out.Hangup == nil || !p.out.Hangup.Graceful || !p.out.Dial || p.s.State() != Connecting {
		t.Fatalf("%+v", p.out)
	}
	p.join()
	p.s.HandleClosed("end of file", p.now)
	p.drain()
	p.s.Reconnect(p.now)
	p.drain()
	if p.out.Hangup != nil || !p.out.Dial {
		t.Fatalf("from back-off: %+v", p.out)
	}
	p.s.Close(p.now)
	p.drain()
	if !p.out.Over || p.out.Fatal != nil || p.out.Hangup == nil || p.out.Hangup.Graceful {
		t.Fatalf("close while connecting: %+v", p.out)
	}
	p.s.Reconnect(p.now)
	p.s.Close(p.now)
	if _, _, ok := p.s.NextTimeout(); ok {
		t.Error("something happens after the end")
	}
}

func TestSessionIsDeterministic(t *testing.T) {
	run := func() string {
		p := newScript(t, SessionConfig{Seed: [32]byte{7}})
		p.join()
		p.s.HandleClosed("x", p.now)
		p.drain()
		log := ""
		for range 20 {
			log += p.wait("retry").String() + " "
			p.s.HandleFailed("x", p.now)
			p.drain()
		}
		return log
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

// Whatever happens in whatever order, the session obeys its contract: output is announced,
// nothing comes after the end, frames only while a websocket is open, and it always waits for
// something.
func TestSessionKeepsItsContract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSession(SessionConfig{MaxPartition: time.Minute, Seed: [32]byte{byte(rapid.Int().Draw(t, "seed"))}}, epoch)
		now, open, dialling := epoch, false, false
		var out SessionOutput
		for range 200 {
			switch rapid.IntRange(0, 9).Draw(t, "input") {
			case 0:
				if dialling {
					s.HandleOpen(now)
					dialling, open = false, true
				}
			case 1:
				if dialling {
					dialling = false
					s.HandleRefused(Refusal{Status: rapid.SampledFrom([]int{400, 503, 429}).Draw(t, "status"), RetryAfter: rapid.SampledFrom([]string{"", "3"}).Draw(t, "retry")}, now)
				}
			case 2:
				if open {
					open = false
					s.HandleClosed("x", now)
				}
			case 3, 4, 5:
				if open {
					s.HandleFrame([]byte(rapid.SampledFrom([]string{
						`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`,
						`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":3,"topic":"phoenix"}`,
						`{"event":"phx_reply","payload":{"response":{"reason":"unmatched topic"},"status":"error"},"ref":0,"topic":"gateway"}`,
						`{"event":"phx_close","payload":{},"topic":"gateway"}`, `[]`,
					}).Draw(t, "frame")), now)
				}
			case 6:
				err := s.Send(NoRelays{}, now)
				if (err == nil) != (s.State() == Joined) {
					t.Fatalf("send in state %v: %v", s.State(), err)
				}
			case 7:
				if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
					s.Reconnect(now)
				}
			default:
				if at, _, ok := s.NextTimeout(); ok {
					now = at
					s.HandleTimeout(now)
				}
			}
			ended := s.State() == Ended
			s.Drain(&out)
			if len(out.Frames) > 0 && !open {
				t.Fatalf("frames without a websocket: %q", out.Frames)
			}
			if out.Hangup != nil {
				open, dialling = false, false
			}
			if out.Dial {
				dialling = true
			}
			if out.Over != ended && out.Over {
				t.Fatal("over, but not ended")
			}
			at, _, ok := s.NextTimeout()
			if ok == ended || ok && at.Before(now) {
				t.Fatalf("state %v: next timeout %v %v at %v", s.State(), at, ok, now)
			}
			if ended {
				return
			}
		}
	})
}

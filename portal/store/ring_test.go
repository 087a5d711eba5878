package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlowLogsAreUpdatedOnce(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	begun, ended, replay := flow(1), flow(1), flow(1)
	ended.Closed, ended.Body = true, []byte("ended")
	replay.Closed, replay.Body = true, []byte("replay")
	for _, l := range []FlowLog{begun, begun, ended, replay, begun} {
		must(s.PutFlowLogs(ctx, "acme", []FlowLog{l}))(t)
	}
	got := must(s.FlowLogs(ctx, "acme", FlowLogFilter{}))(t)
	if len(got) != 1 || string(got[0].Body) != "ended" || !got[0].Closed {
		t.Errorf("stored %+v", got)
	}
	responder := flow(1)
	responder.Role = "responder"
	must(s.PutFlowLogs(ctx, "acme", []FlowLog{responder, flow(2)}))(t)
	if n := must(s.Counts(ctx, "acme"))(t); n.FlowLogs != 3 || n.FlowLogBytes != 15 {
		t.Errorf("counts %+v", n)
	}
}

func TestFlowLogsAreARing(t *testing.T) {
	s := open(t, Options{Limits: Limits{FlowLogs: 100}})
	ctx := t.Context()
	var logs []FlowLog
	for i := range 250 {
		logs = append(logs, flow(i))
	}
	if dropped := must(s.PutFlowLogs(ctx, "acme", logs))(t); dropped != 150 {
		t.Errorf("dropped %d", dropped)
	}
	must(s.PutFlowLogs(ctx, "other", logs[:10]))(t)
	n := must(s.Counts(ctx, "acme"))(t)
	if n.FlowLogs != 100 || n.FlowLogBytes != 500 || n.FlowLogsDropped != 150 {
		t.Errorf("counts %+v", n)
	}
	left := must(s.FlowLogs(ctx, "acme", FlowLogFilter{}))(t)
	if len(left) != 100 || !left[0].Start.Equal(noon) || !slices.IsSortedFunc(left, func(a, b StoredFlowLog) int { return int(a.Seq - b.Seq) }) {
		t.Errorf("%d left, from %+v", len(left), left[0])
	}
}

func TestFlowLogsAreBoundedByBytes(t *testing.T) {
	s := open(t, Options{Limits: Limits{FlowLogBytes: 20 << 10}})
	var dropped int64
	for i := range 50 {
		l := flow(i)
		l.Body = []byte(strings.Repeat("x", 1024))
		dropped += must(s.PutFlowLogs(t.Context(), "acme", []FlowLog{l}))(t)
	}
	if n := must(s.Counts(t.Context(), "acme"))(t); n.FlowLogBytes != 20<<10 || n.FlowLogs != 20 || n.FlowLogsDropped != dropped || dropped != 30 {
		t.Errorf("counts %+v", n)
	}
}

func TestFlowLogsAreFound(t *testing.T) {
	s := open(t, Options{})
	var logs []FlowLog
	for i := range 6 {
		l := flow(0)
		l.Start = noon.Add(time.Duration(i) * time.Hour)
		l.Initiator, l.Resource = fmt.Sprintf("device%d", i%2), fmt.Sprintf("resource%d", i%3)
		logs = append(logs, l)
	}
	must(s.PutFlowLogs(t.Context(), "acme", logs))(t)
	for _, c := range []struct {
		f    FlowLogFilter
		want int
	}{
		{FlowLogFilter{Initiator: "device1"}, 3},
		{FlowLogFilter{Initiator: "device1", Resource: "resource1"}, 1},
		{FlowLogFilter{From: noon.Add(time.Hour), Until: noon.Add(3 * time.Hour)}, 2},
		{FlowLogFilter{Limit: 4}, 4},
		{FlowLogFilter{After: 4}, 2},
	} {
		if got := must(s.FlowLogs(t.Context(), "acme", c.f))(t); len(got) != c.want {
			t.Errorf("%+v finds %d, want %d", c.f, len(got), c.want)
		}
	}
	big := flow(9)
	big.Body = make([]byte, MaxFlowBody+1)
	_, err := s.PutFlowLogs(t.Context(), "acme", []FlowLog{big})
	wantErr(t, err, ErrInvalid)
	_, err = s.PutFlowLogs(t.Context(), "acme", make([]FlowLog, MaxFlowLogs+1))
	wantErr(t, err, ErrInvalid)
}

func TestSignInIsTakenOnce(t *testing.T) {
	s := open(t, Options{Limits: Limits{SignIns: 3}})
	ctx := t.Context()
	state := func(i int) string { return fmt.Sprintf("0123456789abcdef-%d", i) }
	for i := range 5 {
		check(t, s.BeginSignIn(ctx, PendingSignIn{Account: "acme", State: state(i), Data: []byte{byte(i)}, Expires: noon.Add(time.Duration(i+1) * time.Minute)}, noon))
	}
	_, err := s.TakeSignIn(ctx, state(1), noon)
	wantErr(t, err, ErrNotFound) // made room
	p := must(s.TakeSignIn(ctx, state(4), noon))(t)
	if p.Account != "acme" || string(p.Data) != "\x04" {
		t.Errorf("taken %+v", p)
	}
	_, err = s.TakeSignIn(ctx, state(4), noon)
	wantErr(t, err, ErrNotFound)
	_, err = s.TakeSignIn(ctx, state(3), noon.Add(4*time.Minute))
	wantErr(t, err, ErrNotFound) // expired
	check(t, s.BeginSignIn(ctx, PendingSignIn{Account: "acme", State: state(9), Expires: noon.Add(time.Hour)}, noon.Add(10*time.Minute)))
	if n := must(s.Counts(ctx, "acme"))(t); n.SignIns != 1 {
		t.Errorf("%d pending", n.SignIns)
	}
}

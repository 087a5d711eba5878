package channel

import (
	"errors"
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/signal"
)

// idleLink is a joined link on which nothing leaves.
func idleLink(r signal.Role) *Link {
	return &Link{server: &Server{}, role: r, joined: true, cutOff: make(chan struct{})}
}

// fill sends m until it does not fit, and returns how often it did.
func fill(t *testing.T, l *Link, m signal.Message) (n int) {
	t.Helper()
	for range 1 << 16 {
		waiting := len(l.queue)
		err := l.Send(m)
		if err != nil && !errors.Is(err, ErrSlow) {
			t.Fatal(err)
		}
		if dropped := len(l.queue) == waiting; dropped != errors.Is(err, ErrDropped) {
			t.Fatalf("dropped: %v, error: %v", dropped, err)
		}
		if err != nil {
			return n
		}
		n++
	}
	t.Fatalf("%T has no bound", m)
	return n
}

// Candidates and wishes of others never have a device cut, and leave room for what it must be told.
func TestOthersCannotFillAQueue(t *testing.T) {
	l := idleLink(signal.RoleClient)
	device := signal.ID{1}
	var bytes []int
	for _, m := range []signal.Message{
		signal.CandidatesFromGateway{GatewayID: device, Candidates: signal.Candidates{signal.Candidate(strings.Repeat("x", 400))}},
		authorized(signal.Controlled, signal.ID{}),
	} {
		if fill(t, l, m) == 0 {
			t.Errorf("%T finds no room", m)
		}
		bytes = append(bytes, l.queued)
	}
	if bytes[0] > candidateQueueBytes || bytes[1] > wishQueueBytes || bytes[1] < candidateQueueBytes {
		t.Errorf("candidates take up to %d bytes, wishes up to %d", bytes[0], bytes[1])
	}
	if s := l.server.Stats(); s.Dropped != 2 || s.Slow != 0 {
		t.Errorf("stats %+v", s)
	}
	if fill(t, l, signal.RejectAccess{ClientID: device, ResourceID: device}) < (maxQueueBytes-wishQueueBytes)/300 {
		t.Error("a revocation finds no room")
	}
	if s := l.server.Stats(); s.Slow != 1 || !l.gone {
		t.Errorf("a queue that is full cuts nobody: %+v", s)
	}
}

// A large init finds room beside what waits, and what follows it too.
func TestOneLargeFrameWaitsBesideTheOthers(t *testing.T) {
	l := idleLink(signal.RoleGateway)
	init, _ := initFor(signal.RoleGateway).(signal.GatewayInit)
	init.Authorizations = make(signal.List[signal.Authorization], 20000)
	for i := range init.Authorizations {
		init.Authorizations[i] = signal.Authorization{ClientID: signal.ID{1}, ResourceID: signal.ID{2}}
	}
	small := signal.RejectAccess{ClientID: signal.ID{1}, ResourceID: signal.ID{2}}
	send := func(m signal.Message) {
		t.Helper()
		if err := l.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(small)
	send(init)
	for range 100 {
		send(small)
	}
	if n := len(l.queue[1].text); n < 2*maxQueueBytes {
		t.Fatalf("init of %d bytes proves nothing", n)
	}
	for range 102 {
		if q, more := l.pop(); q.text == nil || !more {
			t.Fatal("a frame is missing")
		}
	}
	if l.queued != 0 || l.beside {
		t.Errorf("an empty queue has %d bytes, beside %v", l.queued, l.beside)
	}
	send(init)
	if err := l.Send(init); !errors.Is(err, ErrSlow) {
		t.Errorf("two of them: %v", err)
	}
}

// A queue that is full by what follows a large init is not cut either: the largest frame is the one that
// does not count.
func TestTheLargestFrameWaitsBesideTheOthers(t *testing.T) {
	l := idleLink(signal.RoleGateway)
	large := signal.RelaysPresence{DisconnectedIDs: make(signal.List[signal.ID], 20000)}
	small := signal.ResourceUpdated{GatewayResource: signal.GatewayResource{ID: signal.ID{1}, Type: signal.DNS, Name: strings.Repeat("x", 1000), Address: "a.example"}}
	for i := range large.DisconnectedIDs {
		large.DisconnectedIDs[i] = signal.ID{1}
	}
	if err := l.Send(large); err != nil || l.beside {
		t.Fatal(err, l.beside)
	}
	total := 0
	for total < maxQueueBytes*9/10 {
		if err := l.Send(small); err != nil {
			t.Fatalf("after %d bytes: %v", total, err)
		}
		total += l.queue[len(l.queue)-1].cost()
	}
	for range l.queue {
		l.pop()
	}
	if l.queued != 0 || l.beside {
		t.Errorf("an empty queue has %d bytes, beside %v", l.queued, l.beside)
	}
}

// Who names a message is told when it has gone out, and before the link has ended.
func TestAPushIsConfirmed(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	c := device(t, Config{API: p.http.URL, Role: signal.RoleClient})
	next[signal.Connected](t, c)
	next[signal.ClientInit](t, c)
	l := p.link(t, 0)
	for _, push := range []signal.ID{{}, {7}, {8}} {
		if err := l.Send(authorized(signal.Controlled, push)); err != nil {
			t.Fatal(err)
		}
		if got := next[signal.DeviceAccessAuthorized](t, c); !got.Push.IsZero() {
			t.Errorf("the name of the push is on the wire: %v", got.Push)
		}
	}
	eventually(t, "both are confirmed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.messages) == 2
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, want := range []signal.ID{{7}, {8}} {
		if got, ok := p.messages[i].(signal.Pushed); !ok || got.ID != want {
			t.Errorf("handler is told %+v, want %v", p.messages[i], want)
		}
	}
}

// authorized is a message with a name.
func authorized(r signal.ICERole, push signal.ID) signal.DeviceAccessAuthorized {
	credentials := signal.ICECredentials{Username: "w7up", Password: signal.NewSecret("ksqwm66pilnb7skdwwfw3r")}
	face := initFor(signal.RoleClient).(signal.ClientInit).Interface
	id := signal.ID{1}
	token, err := signal.SignIngestToken(signal.IngestClaims{
		AccountID: id, Role: signal.Responder, InitiatorDeviceID: id, ResponderDeviceID: id, PolicyAuthorizationID: id, PolicyID: id,
		ResourceID: id, InitiatorActorID: id, AuthorizedAt: "2026-09-21T13:33:20.000000Z", AuthorizationExpiresAt: "2026-09-22T13:33:20.000000Z",
	}, signal.NewSecret("key"))
	if err != nil {
		panic(err)
	}
	return signal.DeviceAccessAuthorized{
		ClientID: id, ClientName: "laptop", ClientIPv4: face.IPv4, ClientIPv6: face.IPv6, LocalICE: credentials, RemoteICE: credentials,
		Role: r, IngestToken: token, Push: push,
	}
}

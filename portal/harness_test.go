package portal

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// Ids of the protocol's examples.
const (
	account1  = "33333333-3333-4333-8333-333333333333"
	client1   = "11111111-1111-4111-8111-111111111111"
	gateway1  = "22222222-2222-4222-8222-222222222222"
	resource1 = "77777777-7777-4777-8777-777777777777"
	actor1    = "88888888-8888-4888-8888-888888888888"
	site1     = "99999999-9999-4999-8999-999999999999"
	policy1   = "66666666-6666-4666-8666-666666666666"
)

// start is the time of the examples: 2026-09-21T14:13:20Z.
var start = time.Unix(1790000000, 0).UTC()

// parse reads a policy file.
func parse(t testing.TB, text string) *config.File {
	t.Helper()
	f, err := config.Parse("policy", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// example is the policy file of the protocol's examples.
const example = `
version: 1
accounts:
  - slug: acme
    id: ` + account1 + `
    name: Acme
    sites:
      - {name: lab, id: ` + site1 + `}
    resources:
      - {name: Lab net, id: ` + resource1 + `, type: cidr, address: 10.2.0.0/16, site: lab}
    service_accounts:
      - {name: robot, id: ` + actor1 + `}
    groups:
      - {name: robots, service_accounts: [robot]}
    policies:
      - {id: ` + policy1 + `, group: robots, resource: Lab net}
`

// key returns 32 bytes that count from first.
func key(first byte) (k [32]byte) {
	for i := range k {
		k[i] = first + byte(i)
	}
	return k
}

func same(b byte) (k [32]byte) {
	for i := range k {
		k[i] = b
	}
	return k
}

func clientRow() store.Device {
	return store.Device{
		DeviceKey: store.DeviceKey{Account: account1, Kind: store.Client, Owner: actor1, ExternalID: "c1"},
		ID:        client1, Name: "laptop", PublicKey: key(0), PSKBase: same(1),
		IPv4: netip.MustParseAddr("100.64.12.9"), IPv6: netip.MustParseAddr("fd00:2021:1111::3:7"),
	}
}

func gatewayRow() store.Device {
	return store.Device{
		DeviceKey: store.DeviceKey{Account: account1, Kind: store.Gateway, Owner: site1, ExternalID: "g1"},
		ID:        gateway1, Name: "edge-1", PublicKey: key(0x20), PSKBase: same(2),
		IPv4: netip.MustParseAddr("100.70.3.4"), IPv6: netip.MustParseAddr("fd00:2021:1111::a:1"),
	}
}

func clientConnect(d store.Device) Connect {
	return Connect{
		Role: signal.RoleClient, Device: d, TokenID: "token-" + d.ID[:4], TokenExpires: start.Add(84000 * time.Second),
		Agent:     signal.Agent{OS: "Ubuntu", OSVersion: "24.4.0", Component: "headless-client", Version: "1.5.12"},
		UserAgent: "Ubuntu/24.4.0 headless-client/1.5.12", Remote: netip.MustParseAddr("198.51.100.20"),
		Location: Location{Region: "DE", Latitude: 51.2, Longitude: 9.0, Located: true},
		Actor:    config.Actor{ServiceAccount: d.Owner}, ActorName: "robot", ActorKind: "service_account",
	}
}

func gatewayConnect(d store.Device) Connect {
	return Connect{
		Role: signal.RoleGateway, Device: d, TokenID: "token-" + d.ID[:4],
		Agent: signal.Agent{OS: "Ubuntu", OSVersion: "24.4.0", Component: "gateway", Version: "1.6.1"},
	}
}

func relayConnect(stamp string) Connect {
	return Connect{
		Role: signal.RoleRelay, Stamp: signal.NewSecret(stamp), TokenID: "token-relay",
		Params: signal.Params{Name: "relay-a", IPv4: netip.MustParseAddr("203.0.113.7"), Port: 3478},
	}
}

// shelf is a store in memory with the semantics of the real one.
type shelf struct {
	rows map[string]store.Authorization
	// fail, if set, is what the next write returns.
	fail error
}

func (s *shelf) failure() error {
	err := s.fail
	s.fail = nil
	return err
}

func (s *shelf) PutAuthorization(_ context.Context, a store.Authorization) error {
	if err := s.failure(); err != nil {
		return err
	}
	for id, r := range s.rows {
		if r.Account == a.Account && r.Client == a.Client && r.Gateway == a.Gateway && r.Resource == a.Resource {
			delete(s.rows, id)
		}
	}
	s.rows[a.ID] = a
	return nil
}

func (s *shelf) Revoke(_ context.Context, _ string, f store.AuthorizationFilter) ([]store.Authorization, error) {
	if err := s.failure(); err != nil {
		return nil, err
	}
	delete(s.rows, f.ID)
	return nil, nil
}

func (s *shelf) DeleteExpired(_ context.Context, account string, now time.Time, _ int) (n int64, err error) {
	for id, r := range s.rows {
		if r.Account == account && !r.Expires.After(now) {
			delete(s.rows, id)
			n++
		}
	}
	return n, s.failure()
}

// lab drives a portal and looks at what comes out.
type lab struct {
	t       testing.TB
	p       *Portal
	now     time.Time
	shelf   *shelf
	roles   map[ConnID]signal.Role
	seen    map[ConnID][]string
	writes  []Write
	lazy    bool // writes are carried out by store only
	mute    bool // nobody says that messages have gone out
	pushes  []push
	onFrame func(ConnID, Delivery)
}

// push is a message that has gone out, of which the portal wants to know.
type push struct {
	conn ConnID
	id   signal.ID
}

func newLab(t testing.TB, file string) *lab {
	l := &lab{t: t, now: start, shelf: &shelf{rows: map[string]store.Authorization{}}, roles: map[ConnID]signal.Role{}, seen: map[ConnID][]string{}}
	l.boot(State{File: parse(t, file)})
	return l
}

func (l *lab) boot(s State) {
	l.p = New(Settings{
		Secret: key(7), Seed: key(9), FlowLogs: signal.FlowLogs{APIURL: "https://flow.example/", UploadIntervalSecs: 60, UploadBatchSize: 1000},
	}, s, l.now)
	l.drain()
}

// drain takes what the portal wants done, as a driver does.
func (l *lab) drain() {
	l.t.Helper()
	for {
		var out Output
		l.p.Drain(&out)
		if out.empty() {
			return
		}
		for _, d := range out.Deliveries {
			l.deliver(d)
		}
		l.writes = append(l.writes, out.Writes...)
		if !l.lazy {
			l.store()
		}
		if !l.mute {
			l.push()
		}
	}
}

// push says that messages have gone out.
func (l *lab) push() {
	l.t.Helper()
	for len(l.pushes) > 0 {
		one := l.pushes[0]
		l.pushes = l.pushes[1:]
		l.message(one.conn, signal.Pushed{ID: one.id})
	}
}

func (l *lab) deliver(d Delivery) {
	l.t.Helper()
	if d.Message != nil {
		f, err := signal.EncodeFromPortal(l.roles[d.Conn], signal.V2, d.Message)
		if err != nil {
			l.t.Fatalf("channel %d: %v", d.Conn, err)
		}
		l.seen[d.Conn] = append(l.seen[d.Conn], string(f.PortalText()))
		if m, ok := d.Message.(signal.DeviceAccessAuthorized); ok && !m.Push.IsZero() {
			l.pushes = append(l.pushes, push{d.Conn, m.Push})
		}
	}
	if d.End != Stay {
		l.seen[d.Conn] = append(l.seen[d.Conn], "("+d.End.String()+")")
	}
	if l.onFrame != nil {
		l.onFrame(d.Conn, d)
	}
}

// store carries out the writes that wait.
func (l *lab) store() {
	l.t.Helper()
	for len(l.writes) > 0 {
		w := l.writes[0]
		l.writes = l.writes[1:]
		l.p.HandleStored(w.ID, w.Do(context.Background(), l.shelf), l.now)
		l.drain()
	}
}

func (l *lab) connect(id ConnID, c Connect) {
	l.t.Helper()
	l.roles[id] = c.Role
	l.p.HandleConnect(id, c, l.now)
	l.drain()
}

func (l *lab) disconnect(id ConnID) {
	l.t.Helper()
	l.p.HandleDisconnect(id, l.now)
	l.drain()
}

// text feeds a device's frame, and returns the reply's frame, if there is one.
func (l *lab) text(id ConnID, text string) string {
	l.t.Helper()
	f, err := signal.ParseFrame([]byte(text), signal.FromDevice)
	if err != nil {
		l.t.Fatal(err)
	}
	m, err := signal.DecodeFromDevice(l.roles[id], f)
	if err != nil {
		l.t.Fatal(err)
	}
	reply, answer := l.p.HandleMessage(id, m, l.now)
	l.drain()
	if !answer {
		return ""
	}
	return string(reply.Frame(f.Topic, f.Ref).PortalText())
}

func (l *lab) message(id ConnID, m signal.Message) signal.Reply {
	l.t.Helper()
	reply, _ := l.p.HandleMessage(id, m, l.now)
	l.drain()
	return reply
}

// advance lets time pass, second by second.
func (l *lab) advance(d time.Duration) {
	l.t.Helper()
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(min(time.Second, end.Sub(l.now)))
		if at, _, ok := l.p.NextTimeout(); ok && !l.now.Before(at) {
			l.p.HandleTimeout(l.now)
			l.drain()
		}
	}
}

// take returns what a channel got since the last time.
func (l *lab) take(id ConnID) []string {
	got := l.seen[id]
	delete(l.seen, id)
	return got
}

// expect compares what a channel got with texts in which … stands for anything.
func (l *lab) expect(id ConnID, want ...string) {
	l.t.Helper()
	got := l.take(id)
	if !slices.EqualFunc(got, want, like) {
		l.t.Errorf("channel %d got\n  %s\nwant\n  %s", id, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func like(got, want string) bool {
	parts := strings.Split(want, "…")
	if !strings.HasPrefix(got, parts[0]) {
		return false
	}
	got = got[len(parts[0]):]
	for i, p := range parts[1:] {
		at := strings.Index(got, p)
		if i == len(parts)-2 && p == "" {
			return true
		}
		if i == len(parts)-2 {
			return strings.HasSuffix(got, p)
		}
		if at < 0 {
			return false
		}
		got = got[at+len(p):]
	}
	return got == ""
}

// ref returns the ref of the only create_authorization among texts.
func ref(t testing.TB, texts []string) string {
	t.Helper()
	for _, s := range texts {
		if _, rest, ok := strings.Cut(s, `"payload":{"ref":"`); ok {
			return rest[:36]
		}
	}
	t.Fatalf("no create_authorization in %v", texts)
	return ""
}

// requestText is a client's frame that asks for a resource.
func requestText(resource string) string {
	return fmt.Sprintf(`{"topic":"client","event":"request_authorization","payload":{"resource_id":"%s","connected_gateway_ids":[]},"ref":3}`, resource)
}

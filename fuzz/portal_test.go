package fuzz

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// The ids of the fuzzed account.
const (
	portalAccount  = "33333333-3333-4333-8333-333333333333"
	portalActor    = "88888888-8888-4888-8888-888888888888"
	portalSite     = "99999999-9999-4999-8999-999999999999"
	portalResource = "77777777-7777-4777-8777-77777777777%d"
	portalDevice   = "11111111-1111-4111-8111-11111111111%d"
)

// portalFile is a policy file; with b the edited one.
func portalFile(b bool) []byte {
	filters, group := "", "robots"
	if b {
		filters, group = ", filters: [{protocol: icmp}]", "nobody"
	}
	return fmt.Appendf(nil, `
version: 1
accounts:
  - slug: acme
    id: %s
    name: Acme
    sites: [{name: lab, id: %s}]
    resources:
      - {name: net, id: `+portalResource+`, type: cidr, address: 10.2.0.0/16, site: lab%s}
      - {name: pool, id: `+portalResource+`, type: static_device_pool, devices: [`+portalDevice+`]}
      - {name: names, id: `+portalResource+`, type: dynamic_device_pool, address: "*.example"}
    service_accounts: [{name: robot, id: %s}]
    groups: [{name: robots, service_accounts: [robot]}, {name: nobody}]
    policies:
      - {name: a, group: %s, resource: net, conditions: {time: [{days: [mon], ranges: ["08:00-18:00"], zone: UTC}]}}
      - {name: b, group: robots, resource: pool}
      - {name: c, group: robots, resource: names}
`, portalAccount, portalSite, 0, filters, 1, 1, 2, portalActor, group)
}

// portalFiles are both, read once: nobody writes to a file that has been read.
var portalFiles = [2]func() (*config.File, error){
	sync.OnceValues(func() (*config.File, error) { return config.Parse("policy", portalFile(false)) }),
	sync.OnceValues(func() (*config.File, error) { return config.Parse("policy", portalFile(true)) }),
}

// portalShelf refuses every n-th write.
type portalShelf struct{ n, count int }

func (s *portalShelf) err() error {
	s.count++
	if s.n > 0 && s.count%s.n == 0 {
		return store.ErrUncertain
	}
	return nil
}

func (s *portalShelf) PutAuthorization(context.Context, store.Authorization) error { return s.err() }

func (s *portalShelf) Revoke(context.Context, string, store.AuthorizationFilter) ([]store.Authorization, error) {
	return nil, s.err()
}

func (s *portalShelf) DeleteExpired(context.Context, string, time.Time, int) (int64, error) {
	return 0, s.err()
}

// portalRun is a portal that a fuzzer drives, with six channels: three clients, two gateways and a
// relay. What is not under test is in order: roles are those of the channels, and writes come back
// once.
type portalRun struct {
	t      *testing.T
	p      *portal.Portal
	now    time.Time
	files  [2]*config.File
	shelf  portalShelf
	roles  map[portal.ConnID]signal.Role
	open   map[portal.ConnID]bool
	writes []portal.Write
	ref    string
}

const (
	portalRelay  = 5
	portalPeople = 3
)

// FuzzPortal drives the portal's machine through inputs in any order: channels that join, end and
// talk, whatever a device can write, edits of the policy, time, and a store that fails. Every
// message that comes out can be written, goes to a channel that is there, and follows its init.
func FuzzPortal(f *testing.F) {
	f.Add([]byte{0, 5, 0, 3, 0, 0, 4, 0, 8, 0, 2, 0})
	f.Add([]byte{0, 5, 0, 3, 0, 0, 0, 1, 4, 8, 8, 0, 2, 3, 5, 1, 6, 1, 3, 9, 7, 1})
	for _, text := range []string{
		`{"topic":"client","event":"request_authorization","payload":{"resource_id":"77777777-7777-4777-8777-777777777771","ipv4":"100.64.0.2"},"ref":1}`,
		`{"topic":"client","event":"resolve_device_pool_domain","payload":{"resource_id":"77777777-7777-4777-8777-777777777772","domain":"d1.example"},"ref":1}`,
		`{"topic":"client","event":"new_client_ice_candidates","payload":{"client_id":"11111111-1111-4111-8111-111111111111","candidates":["candidate:1 1 udp 7 x"]},"ref":1}`,
		`{"topic":"client","event":"no_relays","payload":{},"ref":1}`,
	} {
		f.Add(append([]byte{0, 5, 0, 0, 0, 1, 10, 0, byte(len(text))}, text...))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newPortalRun(t)
		for steps := 0; len(script) >= 2 && steps < 500; steps++ {
			op, arg := script[0], script[1]
			script = r.step(op%11, arg, script[2:])
			r.drain()
		}
	})
}

func newPortalRun(t *testing.T) *portalRun {
	r := &portalRun{
		t: t, now: time.Unix(1790000000, 0).UTC(), roles: map[portal.ConnID]signal.Role{}, open: map[portal.ConnID]bool{},
	}
	for i := range r.files {
		f, err := portalFiles[i]()
		if err != nil {
			t.Fatal(err)
		}
		r.files[i] = f
	}
	for i := range portal.ConnID(6) {
		r.roles[i] = signal.RoleClient
		if i >= portalPeople {
			r.roles[i] = signal.RoleGateway
		}
	}
	r.roles[portalRelay] = signal.RoleRelay
	r.p = portal.New(portal.Settings{FlowLogs: signal.FlowLogs{APIURL: "https://localhost/"}}, portal.State{File: r.files[0]}, r.now)
	return r
}

func (r *portalRun) step(op, arg byte, rest []byte) []byte {
	conn := portal.ConnID(arg % 6)
	switch op {
	case 0:
		r.open[conn] = false
		r.p.HandleConnect(conn, r.connect(int(conn)), r.now)
	case 1:
		r.p.HandleDisconnect(conn, r.now)
		delete(r.open, conn)
	case 2:
		r.p.HandleMessage(conn, signal.AuthorizationApplied{Ref: r.ref}, r.now)
	case 3:
		r.now = r.now.Add(time.Duration(arg) * time.Second)
		r.p.HandleTimeout(r.now)
	case 4, 8:
		m := signal.RequestAuthorization{ResourceID: portalID(portalResource, int(arg/6)%3)}
		if arg >= 128 {
			m = signal.NewRequestForDevice(m.ResourceID, netip.AddrFrom4([4]byte{100, 64, 0, arg >> 3 % 3}))
		}
		r.message(conn, m)
		r.store()
	case 5:
		r.shelf.n = int(arg % 5)
		r.p.HandleConfig(r.files[arg%2], r.now)
	case 6:
		r.p.HandleTokenRevoked(fmt.Sprint("token", arg%6), r.now)
	case 7:
		r.p.HandleDeviceDeleted(portalID(portalDevice, int(arg%6)).String(), r.now)
	case 9:
		list := signal.Candidates{signal.Candidate(fmt.Sprintf("candidate:%d 1 udp 1 x", arg))}
		r.message(conn, signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{portalID(portalDevice, 0), portalID(portalDevice, 1)}, Candidates: list})
		r.message(conn, signal.CandidatesToGateway{GatewayID: portalID(portalDevice, 3), Candidates: list})
	case 10:
		return r.text(conn, rest)
	}
	return rest
}

// message gives a channel's message, if it is one of its role.
func (r *portalRun) message(conn portal.ConnID, m signal.Message) {
	if _, err := signal.EncodeFromDevice(r.roles[conn], signal.V2, m); err == nil {
		r.p.HandleMessage(conn, m, r.now)
	}
}

// text takes a length and as many bytes of a frame.
func (r *portalRun) text(conn portal.ConnID, rest []byte) []byte {
	if len(rest) == 0 {
		return nil
	}
	n := min(int(rest[0]), len(rest)-1)
	frame, err := signal.ParseFrame(rest[1:1+n], signal.FromDevice)
	if err == nil {
		if m, err := signal.DecodeFromDevice(r.roles[conn], frame); err == nil {
			r.p.HandleMessage(conn, m, r.now)
		}
	}
	r.store()
	return rest[1+n:]
}

func (r *portalRun) connect(n int) portal.Connect {
	c := portal.Connect{
		Role: r.roles[portal.ConnID(n)], TokenID: fmt.Sprint("token", n), TokenExpires: r.now.Add(1000 * time.Second), Stamp: signal.NewSecret("s"),
		Agent:  signal.Agent{Component: "headless-client", Version: "1.5.12"},
		Params: signal.Params{IPv4: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Port: 3478},
		Device: store.Device{
			DeviceKey: store.DeviceKey{Account: portalAccount, Kind: store.Client, Owner: portalActor},
			ID:        portalID(portalDevice, n).String(), Name: fmt.Sprintf("d%d.example", n), PublicKey: [32]byte{byte(n)},
			IPv4: netip.AddrFrom4([4]byte{100, 64, 0, byte(n)}), IPv6: netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}),
		},
		Actor: config.Actor{ServiceAccount: portalActor},
	}
	if c.Role == signal.RoleGateway {
		c.Agent = signal.Agent{Component: "gateway", Version: "1.6.1"}
		c.Device.Kind, c.Device.Owner = store.Gateway, portalSite
	}
	return c
}

// store carries out what waits.
func (r *portalRun) store() {
	r.drain()
	for len(r.writes) > 0 {
		w := r.writes[0]
		r.writes = r.writes[1:]
		r.p.HandleStored(w.ID, w.Do(r.t.Context(), &r.shelf), r.now)
		r.drain()
	}
}

func (r *portalRun) drain() {
	var out portal.Output
	r.p.Drain(&out)
	r.writes = append(r.writes, out.Writes...)
	for _, d := range out.Deliveries {
		began, there := r.open[d.Conn]
		if !there {
			r.t.Fatalf("%T for channel %d, which is not there", d.Message, d.Conn)
		}
		if d.Message != nil {
			f, err := signal.EncodeFromPortal(r.roles[d.Conn], signal.V2, d.Message)
			if err != nil {
				r.t.Fatal(err)
			}
			if !began && f.Event != "init" && f.Event != "disconnect" {
				r.t.Fatalf("%s comes before init", f.Event)
			}
			r.open[d.Conn] = true
		}
		if m, ok := d.Message.(signal.CreateAuthorization); ok {
			r.ref = m.Ref
		}
		if d.End != portal.Stay {
			delete(r.open, d.Conn)
		}
	}
	if at, _, ok := r.p.NextTimeout(); ok && !at.After(r.now.Add(-time.Hour*24*365)) {
		r.t.Fatalf("a timeout at %v was missed", at)
	}
}

func portalID(format string, n int) signal.ID {
	id, err := signal.ParseID(fmt.Sprintf(format, n))
	if err != nil {
		panic(err)
	}
	return id
}

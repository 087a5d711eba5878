package fuzz

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// codec is one role and direction of the portal channel.
type codec struct {
	role   signal.Role
	limits signal.Limits
	decode func(signal.Role, signal.Frame) (signal.Message, error)
	encode func(signal.Role, signal.Dialect, signal.Message) (signal.Frame, error)
	text   func(signal.Frame) []byte
}

func codecs() (all []codec) {
	for _, r := range []signal.Role{signal.RoleGateway, signal.RoleClient, signal.RoleRelay} {
		all = append(all,
			codec{r, signal.FromPortal, signal.DecodeFromPortal, signal.EncodeFromPortal, signal.Frame.PortalText},
			codec{r, signal.FromDevice, signal.DecodeFromDevice, signal.EncodeFromDevice, signal.Frame.DeviceText})
	}
	return all
}

// FuzzSignal feeds the portal channel arbitrary text, as every role and in both directions. What
// is understood can be written, reads the same when it is, and is written the same again; a
// session that gets the text stays within its contract.
func FuzzSignal(f *testing.F) {
	for _, seed := range []string{
		`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`,
		`{"event":"phx_reply","payload":{"response":{"reason":"unmatched topic"},"status":"error"},"ref":"1","topic":"gateway"}`,
		`{"event":"phx_close","payload":{},"topic":"gateway"}`,
		`{"event":"disconnect","payload":{"reason":"token_expired"},"topic":"gateway"}`,
		`{"topic":"relay","event":"phx_join","payload":{"stamp_secret":"00"},"ref":0}`,
		`{"event":"resource_deleted","payload":"77777777-7777-4777-8777-777777777777","topic":"client"}`,
		`{"event":"ice_candidates","payload":{"client_id":"11111111-1111-4111-8111-111111111111","gateway_id":"11111111-1111-4111-8111-111111111111","candidates":["candidate:1 1 udp 7 x"]}}`,
		`{"event":"resource_updated","payload":{"id":"77777777-7777-4777-8777-777777777777","type":"dns","name":"","address":"*.x","filters":[{"protocol":"tcp","port_range_start":80}]}}`,
		`{"event":"resource_created_or_updated","payload":{"id":"77777777-7777-4777-8777-777777777777","type":"internet","gateway_groups":[]}}`,
		`{"event":"relays_presence","payload":{"disconnected_ids":[],"connected":[{"id":"60e05bd1-b195-4f2f-9411-2fa7197a5c88","type":"turn","addr":"[::1]:3478","username":"1:x","password":"p","expires_at":1}]}}`,
		`{"event":"init","payload":{"interface":{"ipv4":"100.64.0.1","ipv6":"fd00::1/128","upstream_dns":[{}]},"config":{"ipv4_masquerade_enabled":true,"ipv6_masquerade_enabled":true},"relays":[{"type":"stun"}],"resources":[{}],"flow_logs":{"api_url":"","upload_interval_secs":0,"upload_batch_size":0}}}`,
		`{"topic":"client","event":"create_flow","payload":{"resource_id":"77777777-7777-4777-8777-777777777777","ipv4":"100.64.1.2/32"},"ref":3}`,
		`{"event":"client_device_access_denied","payload":{"reason":"\u2028<&>","ipv6":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, c := range codecs() {
			c.check(t, text)
		}
		checkSession(t, text)
	})
}

func (c codec) check(t *testing.T, text []byte) {
	f, err := signal.ParseFrame(text, c.limits)
	if err != nil {
		return
	}
	_, _ = signal.ParseReply(f.Payload)
	_, _ = signal.ParseJoin(c.role, f.Payload)
	m, err := c.decode(c.role, f)
	if err != nil {
		return
	}
	if _, ok := m.(signal.Unknown); ok {
		return
	}
	written, err := c.encode(c.role, signal.V2, m)
	if err != nil {
		t.Fatalf("%s is understood but not written: %v", text, err)
	}
	frame, err := signal.ParseFrame(c.text(written), c.limits)
	if err != nil && len(written.Payload) < c.limits.Bytes/16 {
		t.Fatalf("%s is written as %s: %v", text, c.text(written), err)
	}
	if err != nil {
		return // defaults that are written out may exceed the limit
	}
	again, err := c.decode(c.role, frame)
	if err != nil || reflect.TypeOf(again) != reflect.TypeOf(m) {
		t.Fatalf("%s is written as %s, which is %T, %v", text, c.text(written), again, err)
	}
	if twice, err := c.encode(c.role, signal.V2, again); err != nil || !bytes.Equal(twice.Payload, written.Payload) {
		t.Fatalf("%s is written as\n%s\nand then as\n%s, %v", text, written.Payload, twice.Payload, err)
	}
}

func checkSession(t *testing.T, text []byte) {
	now := time.Unix(1790000000, 0)
	s := signal.NewSession(signal.SessionConfig{}, now)
	var out signal.SessionOutput
	s.HandleOpen(now)
	s.HandleFrame([]byte(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`), now)
	s.Drain(&out)
	s.HandleFrame(text, now)
	s.Drain(&out)
	if len(out.Messages) > 1 || len(out.Frames) > 1 {
		t.Fatalf("%s: %d messages, %d frames", text, len(out.Messages), len(out.Frames))
	}
	if _, _, ok := s.NextTimeout(); ok == out.Over {
		t.Fatalf("%s: over %v, but waits %v", text, out.Over, ok)
	}
}

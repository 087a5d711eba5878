package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// rudeClient is a client without the manners of one. What it gets is read and forgotten.
type rudeClient struct {
	*websocket.Conn
	t *testing.T
}

// newRudeClient joins the portal under an identity of its own.
func newRudeClient(t *testing.T, token, name string) *rudeClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var key [32]byte
	copy(key[:], name)
	query := url.Values{"external_id": {name}, "name": {name}, "public_key": {base64.StdEncoding.EncodeToString(key[:])}}
	c, _, err := websocket.Dial(ctx, "ws://"+portalAddr+signal.Endpoint(signal.RoleClient, signal.V2)+"?"+query.Encode(), &websocket.DialOptions{
		HTTPHeader: http.Header{signal.TokenHeader: {"Bearer " + token}, "User-Agent": {"Linux/6 headless-client/1.5.12"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(int64(signal.FromPortal.Bytes))
	t.Cleanup(func() { _ = c.CloseNow() })
	r := &rudeClient{c, t}
	r.say(ctx, "phx_join", "null")
	go func() {
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	return r
}

// say sends a message, and reports whether it could before ctx ended.
func (c *rudeClient) say(ctx context.Context, event, payload string) bool {
	return c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"topic":"client","event":%q,"payload":%s,"ref":1}`, event, payload)) == nil
}

// flood says something as fast as it can, in the background.
func (c *rudeClient) flood(ctx context.Context, event string, payload func(i int) string) {
	go func() {
		for i := 0; c.say(ctx, event, payload(i)); i++ {
		}
	}()
}

// authorize has a client ask for a resource and its gateway grant it, and returns how many messages
// with candidates the gateway has had to read meanwhile.
func authorize(t *testing.T, gateway *channel.Conn, want func(*signal.CreateAuthorization) bool, ask func()) (candidates int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ask()
	for {
		m, err := gateway.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case signal.CandidatesFromClient:
			candidates += len(m.Candidates)
		case signal.CreateAuthorization:
			if err := gateway.Send(signal.AuthorizationApplied{Ref: m.Ref}); err != nil {
				t.Fatal(err)
			}
			if want(&m) {
				return candidates
			}
		}
	}
}

// TestOneClientCannotOccupyAGateway has two clients flood the gateway that they may use, one with
// candidates and one with requests, while the gateway does not read and then while it does. The
// gateway must stay, what reaches it be bounded, and another client be served as if nothing was.
func TestOneClientCannotOccupyAGateway(t *testing.T) {
	const addr, flooded = "127.0.0.1:9588", 3 * time.Second
	data := newPortalData(t)
	p := startPortal(t, data, "--metrics", addr)
	token := func(args ...string) (text string) {
		_, text = portalToken(t, data, args...)
		return text
	}
	gateway := portalDevice(t, signal.RoleGateway, token("--site", "berlin"))
	portalMessage[signal.GatewayInit](t, gateway)
	client := portalDevice(t, signal.RoleClient, token("--service-account", "ci", "--expires", "1h"))
	office := portalMessage[signal.ClientInit](t, client).Resources[0].ID
	request := func(int) string { return fmt.Sprintf(`{"resource_id":%q,"connected_gateway_ids":[]}`, office) }
	of := func(name string) func(*signal.CreateAuthorization) bool {
		return func(m *signal.CreateAuthorization) bool {
			return strings.HasPrefix(string(m.Client.PublicKey[:]), name)
		}
	}

	ask := func() {
		if err := client.Send(signal.RequestAuthorization{ResourceID: office}); err != nil {
			t.Fatal(err)
		}
	}
	authorize(t, gateway, of("key of client"), ask)
	there := portalMessage[signal.AuthorizationCreated](t, client).GatewayID

	noisy := newRudeClient(t, token("--service-account", "ci", "--expires", "1h"), "noisy")
	authorize(t, gateway, of("noisy"), func() { noisy.say(t.Context(), "request_authorization", request(0)) })
	greedy := newRudeClient(t, token("--service-account", "ci", "--expires", "1h"), "greedy")
	ctx, cancel := context.WithTimeout(t.Context(), flooded)
	defer cancel()
	began := time.Now()
	noisy.flood(ctx, "broadcast_ice_candidates", func(i int) string {
		list := make([]string, 100)
		for j := range list {
			list[j] = fmt.Sprintf(`"candidate:%d 1 udp 7 192.0.2.1 %d typ host"`, i, j)
		}
		return fmt.Sprintf(`{"gateway_ids":[%q],"candidates":[%s]}`, there, strings.Join(list, ","))
	})
	greedy.flood(ctx, "request_authorization", request)
	<-ctx.Done() // the gateway reads nothing meanwhile

	passed := authorize(t, gateway, of("key of client"), ask)
	portalMessage[signal.AuthorizationCreated](t, client)
	if most := 256 + 16*int(time.Since(began)/time.Second+1); passed > most {
		t.Errorf("%d candidates of one client reach the gateway, want %d at most", passed, most)
	}
	body := scrape(t, addr, "/metrics")
	for _, line := range []string{`firelane_portal_channel_total{counter="Slow"} 0`, "firelane_portal_gateways 1"} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	if strings.Contains(body, "firelane_portal_candidates_dropped_total 0\n") {
		t.Error("what was dropped is not counted")
	}
	p.end(t, syscall.SIGTERM)
}

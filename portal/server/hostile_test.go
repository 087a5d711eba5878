package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// raw opens a websocket without the manners of a device.
func (p *testPortal) raw(r signal.Role, token, query string) *websocket.Conn {
	p.t.Helper()
	return p.rawAs(agents[r], r, token, query)
}

func (p *testPortal) rawAs(agent signal.Agent, r signal.Role, token, query string) *websocket.Conn {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, p.url+signal.Endpoint(r, signal.V2)+"?"+query, &websocket.DialOptions{HTTPHeader: http.Header{
		signal.TokenHeader: {"Bearer " + token}, "User-Agent": {agent.String()},
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.CloseNow() })
	return c
}

// say writes a text and returns the next one that comes back.
func say(t *testing.T, c *websocket.Conn, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return "", err
	}
	_, answer, err := c.Read(ctx)
	return string(answer), err
}

const (
	rawQuery  = "external_id=a&name=b&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"
	heartbeat = `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":%d}`
)

// TestMalformedFramesHarmNobody sends what no device sends. Whatever it is, the portal must go on,
// and the channel as well if it can be understood at all.
func TestMalformedFramesHarmNobody(t *testing.T) {
	p := start(t, policy)
	c := p.raw(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), rawQuery)
	reply, err := say(t, c, `{"topic":"client","event":"phx_join","payload":null,"ref":0}`)
	if err != nil || reply != `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"client"}` {
		t.Fatalf("join: %s, %v", reply, err)
	}
	if _, init, err := c.Read(t.Context()); err != nil || !strings.HasPrefix(string(init), `{"event":"init",`) {
		t.Fatalf("init: %s, %v", init, err)
	}
	for ref, text := range []string{
		"", "null", "{", "[]", `{"topic":"client"}`, `{"event":"x"}`, `{"topic":"client","event":"request_authorization","payload":{}}`,
		`{"topic":"client","event":"request_authorization","payload":{"resource_id":"` + strings.Repeat("9", 5000) + `"}}`,
		`{"topic":"client","event":"no_such_event","payload":{}}`, `{"topic":"gateway","event":"phx_join","payload":null}`,
		strings.Repeat("[", 10_000), `{"topic":"client","event":"` + strings.Repeat("e", 10_000) + `","payload":{}}`, "\x00\xff\xfe",
		`{"topic":"client","event":"new_gateway_ice_candidates","payload":{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":["x"]}}`,
	} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatalf("%.40q ends the channel: %v", text, err)
		}
		if answer, err := say(t, c, fmt.Sprintf(heartbeat, ref)); err != nil || !strings.Contains(answer, fmt.Sprintf(`"ref":%d`, ref)) {
			t.Errorf("after %.40q: %s, %v", text, answer, err)
		}
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if answer, err := say(t, c, fmt.Sprintf(heartbeat, 99)); err != nil {
		t.Errorf("after a binary frame: %s, %v", answer, err)
	}
	unknown, err := say(t, c, `{"topic":"client","event":"no_such_event","payload":{},"ref":100}`)
	if err != nil || !strings.Contains(unknown, `"reason":"unknown_message"`) {
		t.Errorf("an unknown event: %s, %v", unknown, err)
	}
}

// TestHugeFramesEndTheirChannel sends more than a frame may have.
func TestHugeFramesEndTheirChannel(t *testing.T) {
	p := start(t, policy)
	c := p.raw(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), rawQuery)
	if _, err := say(t, c, strings.Repeat("x", signal.FromDevice.Bytes+1)); err == nil {
		t.Error("the channel is still there")
	}
	eventually(t, "the channel is forgotten", func() bool { return p.channels.Stats().Links == 0 })
	next[signal.GatewayInit](t, p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway"))
}

// TestSlowReadersAreCut sends a device more than it reads.
func TestSlowReadersAreCut(t *testing.T) {
	p := start(t, policy)
	c := p.raw(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), rawQuery)
	if _, err := say(t, c, `{"topic":"client","event":"phx_join","payload":null,"ref":0}`); err != nil {
		t.Fatal(err)
	}
	m := signal.ResourceChanged{ClientResource: signal.ClientResource{ID: p.resource("Office"), Type: signal.CIDR, Address: "10.0.0.0/8", Name: strings.Repeat("x", 60000)}}
	for range 10000 {
		p.driver.live(func(s *session) {
			if err := s.link.Send(m); err != nil && !errors.Is(err, channel.ErrSlow) && !errors.Is(err, channel.ErrEnded) {
				t.Fatal(err)
			}
		})
		if p.channels.Stats().Slow > 0 {
			break
		}
	}
	eventually(t, "it is counted", func() bool { return p.channels.Stats().Slow == 1 })
	eventually(t, "it is forgotten", func() bool { return p.driver.stats().Clients == 0 })
}

// TestFloodsAreSlowedDown asks as fast as it can: no more of it reaches the machine than may.
func TestFloodsAreSlowedDown(t *testing.T) {
	p := start(t, policy)
	c := p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil)
	c.join()
	go func() {
		for {
			if _, _, err := c.ws.Read(t.Context()); err != nil {
				return
			}
		}
	}()
	const most = 200 // at once
	began := time.Now()
	for range 2 * most {
		c.send(`{"topic":"client","event":"request_authorization","payload":{"resource_id":"99999999-9999-4999-8999-999999999999","connected_gateway_ids":[]},"ref":1}`)
	}
	eventually(t, "it has to wait", func() bool { return p.channels.Stats().Throttled > 0 })
	n, perSecond := p.driver.stats().Requests, 50
	if allowed := most + perSecond*int(time.Since(began)/time.Second+1); n > uint64(allowed) {
		t.Errorf("%d requests at once, want %d at most", n, allowed)
	}
}

// TestRequestsAreBounded sends headers and bodies that are too large or never end.
func TestRequestsAreBounded(t *testing.T) {
	p := start(t, policy)
	send := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, text); err != nil {
			return ""
		}
		answer, _ := io.ReadAll(c) // a reset after the answer is as good as an end
		return string(answer)
	}
	if a := send("GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 431 ") {
		t.Errorf("a large header: %.60q", a)
	}
	_, token := p.tokenAndID(TokenWish{API: WriteScope})
	head := "POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Bearer " + token
	if a := send(fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n{%s", head, 2*maxAPIBody, strings.Repeat(" ", 2*maxAPIBody-1))); !strings.HasPrefix(a, "HTTP/1.1 413 ") {
		t.Errorf("a large body: %.60q", a)
	}
	if a := send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); strings.HasPrefix(a, "HTTP/1.1 200") || strings.HasPrefix(a, "\x00\x00") {
		t.Errorf("HTTP/2: %.60q", a)
	}
}

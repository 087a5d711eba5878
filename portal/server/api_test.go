package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/protocol/signal"
)

// call asks the API; into is filled from an answer that is not an error.
func (p *testPortal) call(token, method, path string, body, into any) *http.Response {
	p.t.Helper()
	var b bytes.Buffer
	contentType := "application/json"
	switch body := body.(type) {
	case nil:
	case string:
		b.WriteString(body)
		contentType = "application/yaml"
	default:
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			p.t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+apiPrefix+path, &b)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		p.t.Logf("%s %s: %s", method, path, text)
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			p.t.Errorf("%s %s: an error of type %s", method, path, got)
		}
	} else if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return resp
}

// listOf is an answer that is a list.
type listOf[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func TestAPIShowsLiveState(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	create, created := ps.authorize(t, p.resource("Office"))
	token := p.token(TokenWish{API: ReadScope})

	var gateways, clients listOf[deviceView]
	p.call(token, "GET", "/gateways", nil, &gateways)
	if len(gateways.Items) != 1 || !gateways.Items[0].Online || gateways.Items[0].OwnerName != "berlin" || gateways.Items[0].Remote != "127.0.0.1" ||
		gateways.Items[0].ID != created.GatewayID.String() {
		t.Errorf("gateways: %+v", gateways)
	}
	p.call(token, "GET", "/clients", nil, &clients)
	if len(clients.Items) != 1 || !clients.Items[0].Online || clients.Items[0].OwnerName != "ci" || clients.Items[0].ID != create.Client.ID.String() {
		t.Errorf("clients: %+v", clients)
	}
	var relays listOf[relayView]
	p.call(token, "GET", "/relays", nil, &relays)
	if len(relays.Items) != 1 || relays.Items[0].ID != signal.RelayID(signal.NewSecret(stampSecret)).String() || relays.Items[0].Port != 3478 {
		t.Errorf("relays: %+v", relays)
	}
	var authorizations listOf[authorizationView]
	p.call(token, "GET", "/authorizations", nil, &authorizations)
	if len(authorizations.Items) != 1 || authorizations.Items[0].Client != create.Client.ID.String() {
		t.Errorf("authorizations: %+v", authorizations)
	}
	ps.client.Close()
	eventually(t, "the client is offline", func() bool {
		p.call(token, "GET", "/clients", nil, &clients)
		return !clients.Items[0].Online
	})
}

// TestAPIShowsNothingOfOthers asks with another account's token for everything, by list and by id.
func TestAPIShowsNothingOfOthers(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	create, _ := ps.authorize(t, p.resource("Office"))
	id, _ := p.tokenAndID(TokenWish{Site: "berlin"})
	foreign := p.token(TokenWish{Account: "other", API: WriteScope})
	for _, path := range []string{"/gateways", "/clients", "/authorizations", "/flows", "/people"} {
		var list listOf[json.RawMessage]
		if p.call(foreign, "GET", path, nil, &list); len(list.Items) != 0 {
			t.Errorf("%s: %s", path, list.Items)
		}
	}
	var tokens listOf[TokenView]
	if p.call(foreign, "GET", "/tokens", nil, &tokens); len(tokens.Items) != 1 {
		t.Errorf("tokens: %+v", tokens)
	}
	for _, path := range []string{"/tokens/" + id, "/devices/" + create.Client.ID.String()} {
		if resp := p.call(foreign, "DELETE", path, nil, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("DELETE %s: %s", path, resp.Status)
		}
	}
	var plan struct{ Changes []changeView }
	p.call(foreign, "POST", "/policy/plan", strings.Replace(policy, "name: Office", "name: Labs", 1), &plan)
	if len(plan.Changes) != 0 {
		t.Errorf("plan: %+v", plan)
	}
}

func TestAPITokensAndScopes(t *testing.T) {
	p := start(t, policy)
	for token, want := range map[string]int{
		"": 401, "nonsense": 401, p.token(TokenWish{Site: "berlin"}): 401, p.token(TokenWish{ServiceAccount: "ci"}): 401,
	} {
		if resp := p.call(token, "GET", "/gateways", nil, nil); resp.StatusCode != want {
			t.Errorf("with %q: %s", token, resp.Status)
		}
	}
	read, write := p.token(TokenWish{API: ReadScope}), p.token(TokenWish{API: WriteScope})
	wish := map[string]any{"site": "berlin", "name": "edge"}
	if resp := p.call(read, "POST", "/tokens", wish, nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a reader makes a token: %s", resp.Status)
	}
	var made struct{ ID, Token, Kind, Name string }
	if resp := p.call(write, "POST", "/tokens", wish, &made); resp.StatusCode != http.StatusCreated || made.Kind != "gateway" || made.Name != "edge" {
		t.Fatalf("%s: %+v", resp.Status, made)
	}
	gateway := p.device(signal.RoleGateway, made.Token, "gateway")
	next[signal.GatewayInit](t, gateway)
	if resp := p.call(write, "DELETE", "/tokens/"+made.ID, nil, nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("revoke: %s", resp.Status)
	}
	if err := ended(t, gateway); !strings.Contains(err.Error(), "token") {
		t.Errorf("the gateway is told: %v", err)
	}
	for _, bad := range []map[string]any{{}, {"site": "nowhere"}, {"site": "berlin", "service_account": "ci"}, {"site": "berlin", "expires": "2020-01-01T00:00:00Z"}, {"else": 1}} {
		if resp := p.call(write, "POST", "/tokens", bad, nil); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%v: %s", bad, resp.Status)
		}
	}
}

func TestAPIPages(t *testing.T) {
	p := start(t, policy)
	token := p.token(TokenWish{API: ReadScope})
	made := map[string]bool{}
	for range 7 {
		id, _ := p.tokenAndID(TokenWish{Site: "berlin"})
		made[id] = true
	}
	var seen []string
	for after, pages := "", 0; ; pages++ {
		var list listOf[TokenView]
		p.call(token, "GET", "/tokens?kind=gateway&limit=3&after="+after, nil, &list)
		for _, v := range list.Items {
			seen = append(seen, v.ID)
		}
		if after = list.Next; after == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != len(made) {
		t.Errorf("%d tokens of %d", len(seen), len(made))
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "kind=king", "after=" + strings.Repeat("x", 65)} {
		if resp := p.call(token, "GET", "/tokens?"+query, nil, nil); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %s", query, resp.Status)
		}
	}
}

func TestAPIChecksAndPlans(t *testing.T) {
	p := start(t, policy)
	token := p.token(TokenWish{API: ReadScope})
	var bad struct {
		Good     bool
		Problems []problemView
	}
	p.call(token, "POST", "/policy/check", strings.Replace(policy, "type: cidr", "type: cidra", 1), &bad)
	if bad.Good || len(bad.Problems) == 0 || bad.Problems[0].Line != 7 {
		t.Errorf("%+v", bad)
	}
	var plan struct {
		Good    bool
		Changes []changeView
	}
	p.call(token, "POST", "/policy/plan", strings.Replace(policy, "10.2.0.0/16", "10.3.0.0/16", 1), &plan)
	if !plan.Good || len(plan.Changes) != 1 || plan.Changes[0].Name != "Office" || !slices.Equal(plan.Changes[0].For, []string{"robots"}) {
		t.Errorf("%+v", plan)
	}
}

// TestOpenAPIDocumentIsValid has the published document checked by another implementation, and
// compares its paths with what is served.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	p := start(t, policy)
	for _, path := range []string{openAPIPath + ".json"} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := doc.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for name, item := range doc.Paths.Map() {
			for method := range item.Operations() {
				if resp := p.call("", method, strings.TrimPrefix(name, apiPrefix), nil, nil); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s %s without a token: %s", method, name, resp.Status)
				}
			}
		}
		if n := doc.Paths.Len(); n < 10 {
			t.Errorf("%d paths", n)
		}
	}
}

// TestDevicesCanBeForgotten deletes a connected client, which must be told to come back as another.
func TestDevicesCanBeForgotten(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	create, _ := ps.authorize(t, p.resource("Office"))
	token := p.token(TokenWish{API: WriteScope})
	id := create.Client.ID.String()
	var changed deviceView
	if p.call(token, "PATCH", "/devices/"+id, map[string]any{"name": "robot", "verified": true}, &changed); changed.Name != "robot" || !changed.Verified {
		t.Errorf("%+v", changed)
	}
	if resp := p.call(token, "DELETE", "/devices/"+id, nil, nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("%s", resp.Status)
	}
	if m := next[signal.RejectAccess](t, ps.gateway); m.ClientID != create.Client.ID {
		t.Errorf("%+v", m)
	}
	next[signal.Disconnected](t, ps.client)
}

// TestFlowRecordsAreTaken uploads a record with the token of an authorization and reads it back.
func TestFlowRecordsAreTaken(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	create, _ := ps.authorize(t, p.resource("Office"))
	post := func(token, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", p.url+portal.IngestPath, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	wait := func() {
		eventually(t, "another upload is allowed", func() bool {
			p.ingests.mu.Lock()
			defer p.ingests.mu.Unlock()
			for _, at := range p.ingests.fullAt {
				if at.After(time.Now()) {
					return false
				}
			}
			return true
		})
	}
	record := fmt.Sprintf(`{"flow_logs":[{"protocol":"tcp","inner_src_ip":"100.64.0.1","inner_src_port":50122,"inner_dst_ip":"10.2.0.8",
		"inner_dst_port":443,"flow_start":%q}]}`, time.Now().UTC().Format(time.RFC3339Nano))
	token := create.IngestToken.Reveal()
	if resp := post("nonsense", record); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token: %s", resp.Status)
	}
	if resp := post(token, record); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("twice within a second: %s", resp.Status)
	}
	wait()
	if resp := post(token, record); resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	wait()
	if resp := post(token, "{"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("nonsense: %s", resp.Status)
	}
	var flows listOf[flowView]
	p.call(p.token(TokenWish{API: ReadScope}), "GET", "/flows", nil, &flows)
	if len(flows.Items) != 1 || flows.Items[0].Initiator != create.Client.ID.String() {
		t.Errorf("%+v", flows)
	}
	wait()
	if n, err := p.store.Counts(t.Context(), p.accountOf("acme").ID); err != nil || n.FlowLogs != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

package server

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

func manyResources(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\naccounts:\n  - slug: acme\n    sites: [{name: berlin}]\n    service_accounts: [{name: ci}]\n")
	b.WriteString("    groups:\n      - {name: robots, service_accounts: [ci]}\n    resources:\n")
	for i := range n {
		fmt.Fprintf(&b, "      - {name: r%d, type: cidr, address: 10.%d.%d.0/24, site: berlin}\n", i, i/200, i%200)
	}
	b.WriteString("    policies:\n")
	for i := range n {
		fmt.Fprintf(&b, "      - {group: robots, resource: r%d}\n", i)
	}
	return b.String()
}

// One edit that takes hundreds of things away cuts nobody.
func TestAnEditOfManyThingsCutsNobody(t *testing.T) {
	const shown, granted = 600, 100
	p := start(t, manyResources(shown))
	gateway := p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
	next[signal.GatewayInit](t, gateway)
	client := p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), "client")
	init := next[signal.ClientInit](t, client)
	for i := range granted {
		send(t, client, signal.RequestAuthorization{ResourceID: init.Resources[i].ID})
		send(t, gateway, signal.AuthorizationApplied{Ref: next[signal.CreateAuthorization](t, gateway).Ref})
		next[signal.AuthorizationCreated](t, client)
	}
	writePolicy(t, p.file, strings.Replace(manyResources(shown), "service_accounts: [ci]}", "service_accounts: []}", 1))
	if left := next[signal.GatewayInit](t, gateway).Authorizations; len(left) > 0 {
		t.Errorf("gateway keeps %d grants", len(left))
	}
	for range shown {
		next[signal.ResourceDeleted](t, client)
	}
	if n := p.channels.Stats().Slow; n > 0 {
		t.Errorf("%d devices are cut", n)
	}
}

func TestGuessesDoNotLockOutNeighbours(t *testing.T) {
	p := start(t, policy)
	refused := 0
	for i := range failureBurst + 10 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/clients", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", fmt.Sprintf("Bearer x%d", i))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused == 0 {
		t.Error("guesses are not limited")
	}
	p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil).join()
}

// Deadlines come when the clock has been set back.
func TestTimeGoesOnWhenTheClockIsSetBack(t *testing.T) {
	d := &driver{}
	ahead := time.Now().Round(0).Add(time.Hour)
	d.last, d.read = ahead, time.Now().Add(-time.Minute)
	if got := d.now(); got.Before(ahead.Add(time.Minute)) || got.After(ahead.Add(2*time.Minute)) {
		t.Errorf("a minute after %v it is %v", ahead, got)
	}
	d = &driver{last: time.Now().Round(0).Add(-time.Hour), read: time.Now()}
	if got := d.now(); time.Since(got) > time.Minute {
		t.Errorf("a clock set forward is not followed: %v", got)
	}
}

// A portal that cannot read what was in force trusts no authorization.
func TestAnUnreadableFileInForceRevokesEverything(t *testing.T) {
	for _, spoil := range []func(path string) error{
		os.Remove,
		func(path string) error { return os.WriteFile(path, []byte("version: 99\n"), 0o600) },
	} {
		p := start(t, policy)
		gateway := p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
		next[signal.GatewayInit](t, gateway)
		client := p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), "client")
		next[signal.ClientInit](t, client)
		send(t, client, signal.RequestAuthorization{ResourceID: p.resource("Office")})
		next[signal.CreateAuthorization](t, gateway)
		p.stop()
		if err := spoil(InForcePath(p.options.Data)); err != nil {
			t.Fatal(err)
		}
		p.serve()
		gateway = p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "other")
		next[signal.GatewayInit](t, gateway)
		if n := p.driver.stats().Authorizations; n != 0 {
			t.Errorf("%d authorizations are trusted", n)
		}
		if _, _, err := readPolicy(InForcePath(p.options.Data)); err != nil {
			t.Errorf("the file in force is not kept: %v", err)
		}
	}
}

// A file that changes between two looks is not read yet.
func TestAFileThatIsBeingWrittenIsNotRead(t *testing.T) {
	p := &testPortal{t: t, dir: t.TempDir()}
	p.file = p.dir + "/policy.yaml"
	writePolicy(t, p.file, policy)
	s, err := Open(t.Context(), Options{Config: p.file, Data: p.dir + "/data", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	half := strings.Split(policy, "  - slug: other")[0]
	writePolicy(t, p.file, half)
	s.lookAtPolicy(t.Context())
	writePolicy(t, p.file, policy+"# written\n")
	s.lookAtPolicy(t.Context())
	if s.accountOf("other") == nil {
		t.Fatal("half a file is in force")
	}
	writePolicy(t, p.file, half)
	s.lookAtPolicy(t.Context())
	s.lookAtPolicy(t.Context())
	if s.accountOf("other") != nil {
		t.Error("a file that has stayed the same is not in force")
	}
}

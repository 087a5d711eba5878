package main

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal/server"
	"github.com/firelane/firelane/protocol/signal"
)

// portalAddr is where test portals serve, in the network namespace of the tests.
const portalAddr = "127.0.0.1:18080"

// runPortalCommand runs `firelane portal` with arguments to its end.
func runPortalCommand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := program(t, nil, append([]string{"firelane", "portal"}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestPortalCheck(t *testing.T) {
	for _, c := range []struct {
		file string
		code int
	}{{"bad", exitFailed}, {"before", 0}} {
		stdout, stderr, code := runPortalCommand(t, "check", "testdata/portal/"+c.file+".yaml")
		want, err := os.ReadFile("testdata/portal/check-" + c.file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if stdout != string(want) || stderr != "" || code != c.code {
			t.Errorf("%s: exit code %d, %q, and on standard output\n%s", c.file, code, stderr, stdout)
		}
	}
}

// TestPortalPlan compares a file with the one in force, and with nothing where no portal has run.
func TestPortalPlan(t *testing.T) {
	data := t.TempDir()
	before, err := os.ReadFile("testdata/portal/before.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.InForcePath(data), before, 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/portal/plan.txt")
	if err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := runPortalCommand(t, "plan", "--data", data, "testdata/portal/after.yaml"); stdout != string(want) || code != 0 {
		t.Errorf("exit code %d, %q, and on standard output\n%s", code, stderr, stdout)
	}
	stdout, _, _ := runPortalCommand(t, "plan", "--data", data+"/none", "testdata/portal/before.yaml")
	if !strings.HasSuffix(stdout, "0 to remove, 0 to update, 8 to add\n") {
		t.Errorf("the first file:\n%s", stdout)
	}
	if _, _, code := runPortalCommand(t, "plan", "--data", data, "testdata/portal/bad.yaml"); code != exitFailed {
		t.Errorf("a bad file: exit code %d", code)
	}
}

func TestBadPortalCommandLines(t *testing.T) {
	data := t.TempDir()
	words := strings.Fields
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no policy", nil, exitUsage, "--config is missing"},
		{"an argument", words("--config x y"), exitUsage, `unknown argument "y"`},
		{"no file there", words("--config /nonexistent --data " + data), exitFailed, "no such file"},
		{"a name to listen at", words("--config x --listen localhost:1"), exitUsage, `--listen "localhost:1"`},
		{"a key without certificate", words("--config x --tls-key k"), exitUsage, "--tls-cert and --tls-key belong together"},
		{"a proxy by name", words("--config x --trusted-proxy proxy"), exitUsage, `--trusted-proxy "proxy"`},
		{"no devices from an address", words("--config x --max-per-address 0"), exitUsage, "--max-per-address 0: want 1 to 20000"},
		{"a gateway's token for the portal", words("token create --portal --site berlin --config testdata/portal/before.yaml --data " + data), exitUsage, "only a token of the API"},
		{"a URL without scheme", words("--config x --url portal.example"), exitUsage, `--url "portal.example"`},
		{"a URL with a path", words("--config x --url https://portal.example/a"), exitUsage, "want a scheme and a host"},
		{"a bad policy", words("--config testdata/portal/bad.yaml --data " + data), exitFailed, "bad.yaml:6:45: "},
		{"check without file", words("check"), exitUsage, "want one file"},
		{"backup of nothing", words("backup --data " + data + "/none to"), exitFailed, "no portal has run"},
		{"token without a verb", words("token"), exitUsage, "want create, list or revoke"},
		{"a token for nobody", words("token create --config testdata/portal/before.yaml --data " + data), exitUsage, "want exactly one of"},
		{"a token for two", words("token create --relay --site berlin --config testdata/portal/before.yaml --data " + data), exitUsage, "want exactly one of"},
		{"an unknown site", words("token create --site nowhere --config testdata/portal/before.yaml --data " + data), exitUsage, `no site "nowhere"`},
		{"an unknown account", words("token create --account x --site berlin --config testdata/portal/before.yaml --data " + data), exitUsage, `no account "x"`},
		{"a lifetime without unit", words("token create --relay --expires 90 --data " + data), exitUsage, `--expires "90"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := refused(t, program(t, nil, append([]string{"firelane", "portal"}, c.args...)...), c.code)
			if !strings.Contains(line, c.want) {
				t.Errorf("got %q, want %q in it", line, c.want)
			}
		})
	}
}

// portalProcess is a portal that runs.
type portalProcess struct {
	*exec.Cmd
	stderr bytes.Buffer
}

// startPortal starts a portal and waits until it answers.
func startPortal(t *testing.T, data string, more ...string) *portalProcess {
	t.Helper()
	p := launchPortal(t, data, more...)
	awaitPortal(t)
	return p
}

// launchPortal starts a portal.
func launchPortal(t *testing.T, data string, more ...string) *portalProcess {
	t.Helper()
	setUp(t, "lo")
	args := append([]string{"firelane", "portal", "--config", filepath.Join(data, "policy.yaml"), "--data", data, "--listen", portalAddr}, more...)
	p := &portalProcess{Cmd: program(t, nil, args...)}
	p.Stderr = &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitPortal waits until the portal answers.
func awaitPortal(t *testing.T) {
	t.Helper()
	await(t, "answer", func() bool {
		r, err := http.Get("http://" + portalAddr + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// end ends the portal with a signal and returns its exit code.
func (p *portalProcess) end(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // the state says it
	return p.ProcessState.ExitCode()
}

// newPortalData is a data directory with a policy file in it.
func newPortalData(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	text, err := os.ReadFile("testdata/portal/before.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "policy.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

// portalToken makes a token with the command line.
func portalToken(t *testing.T, data string, args ...string) (id, text string) {
	t.Helper()
	args = append([]string{"token", "create", "--data", data, "--config", filepath.Join(data, "policy.yaml")}, args...)
	stdout, stderr, code := runPortalCommand(t, args...)
	id, ok := strings.CutPrefix(strings.TrimSpace(stderr), "token ")
	if code != 0 || !ok || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	return id, strings.TrimSpace(stdout)
}

// portalDevice dials the portal.
func portalDevice(t *testing.T, r signal.Role, token string) *channel.Conn {
	t.Helper()
	component := map[signal.Role]string{signal.RoleGateway: "gateway/1.6.1", signal.RoleClient: "headless-client/1.5.12", signal.RoleRelay: "relay/0.1.0"}[r]
	c := channel.Config{API: "http://" + portalAddr, Role: r, Token: signal.NewSecret(token), Agent: "Linux/6 " + component}
	c.Params = signal.Params{Name: r.String(), ExternalID: "the " + r.String()}
	copy(c.Params.PublicKey[:], "key of "+r.String())
	if r == signal.RoleRelay {
		c.Params = signal.Params{IPv4: netip.MustParseAddr("203.0.113.7")}
		c.Join.StampSecret = signal.NewSecret(strings.Repeat("0", 64))
	}
	conn, err := channel.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// portalMessage returns the next message of type M.
func portalMessage[M signal.Message](t *testing.T, c *channel.Conn) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		m, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.(M); ok {
			return got
		}
	}
}

// TestPortalKeepsWhatItConfirmed kills the program without warning after an authorization. The next
// one must know the devices by the same ids and addresses, and the authorization.
func TestPortalKeepsWhatItConfirmed(t *testing.T) {
	data := newPortalData(t)
	p := startPortal(t, data)
	_, relayToken := portalToken(t, data, "--relay")
	_, gatewayToken := portalToken(t, data, "--site", "berlin")
	_, clientToken := portalToken(t, data, "--service-account", "ci", "--expires", "1h")
	portalMessage[signal.RelayInit](t, portalDevice(t, signal.RoleRelay, relayToken))
	gateway := portalDevice(t, signal.RoleGateway, gatewayToken)
	gatewayBefore := portalMessage[signal.GatewayInit](t, gateway)
	client := portalDevice(t, signal.RoleClient, clientToken)
	clientBefore := portalMessage[signal.ClientInit](t, client)
	if len(clientBefore.Resources) != 1 {
		t.Fatalf("the client sees %v", clientBefore.Resources)
	}
	if err := client.Send(signal.RequestAuthorization{ResourceID: clientBefore.Resources[0].ID}); err != nil {
		t.Fatal(err)
	}
	create := portalMessage[signal.CreateAuthorization](t, gateway)
	p.end(t, syscall.SIGKILL)

	p = startPortal(t, data)
	gatewayAfter := portalMessage[signal.GatewayInit](t, gateway)
	if gatewayAfter.Interface.IPv4 != gatewayBefore.Interface.IPv4 || gatewayAfter.Interface.IPv6 != gatewayBefore.Interface.IPv6 {
		t.Errorf("the gateway is %v now, was %v", gatewayAfter.Interface, gatewayBefore.Interface)
	}
	if len(gatewayAfter.Authorizations) != 1 || gatewayAfter.Authorizations[0].ClientID != create.Client.ID ||
		gatewayAfter.Authorizations[0].ExpiresAt != create.ExpiresAt {
		t.Errorf("authorizations: %v", gatewayAfter.Authorizations)
	}
	if after := portalMessage[signal.ClientInit](t, client); after.Interface.IPv4 != clientBefore.Interface.IPv4 {
		t.Errorf("the client is %v now, was %v", after.Interface, clientBefore.Interface)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, &p.stderr)
	}
	if strings.Contains(p.stderr.String(), gatewayToken) || strings.Contains(p.stderr.String(), clientToken) {
		t.Error("a token is in the log")
	}
}

// TestPortalTokens goes through the life of a token, with a portal that runs meanwhile.
func TestPortalTokens(t *testing.T) {
	data := newPortalData(t)
	p := startPortal(t, data)
	id, text := portalToken(t, data, "--site", "berlin", "--name", "edge 1")
	gateway := portalDevice(t, signal.RoleGateway, text)
	portalMessage[signal.GatewayInit](t, gateway)
	list, _, _ := runPortalCommand(t, "token", "list", "--data", data)
	if !strings.Contains(list, id) || !strings.Contains(list, "edge 1") || !strings.Contains(list, "berlin") {
		t.Errorf("list:\n%s", list)
	}
	whole, _ := portalToken(t, data, "--api", "write", "--portal", "--name", "ansible")
	if list, _, _ := runPortalCommand(t, "token", "list", "--relay", "--data", data); !strings.Contains(list, whole) || !strings.Contains(list, "ansible") {
		t.Errorf("list of what is the portal's:\n%s", list)
	}
	database, err := os.ReadFile(server.DatabasePath(data))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(database, []byte(text)) || strings.Contains(list, text) {
		t.Error("the token is stored, or shown twice")
	}
	if _, stderr, code := runPortalCommand(t, "token", "revoke", "--data", data, id); code != 0 {
		t.Fatalf("revoke: %s", stderr)
	}
	revoked := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err = gateway.Next(ctx); err != nil {
			break
		}
	}
	if took := time.Since(revoked); !strings.Contains(err.Error(), "token") || took > time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	if list, _, _ := runPortalCommand(t, "token", "list", "--data", data); strings.Contains(list, id) {
		t.Errorf("it is still in the list:\n%s", list)
	}
	if list, _, _ := runPortalCommand(t, "token", "list", "--revoked", "--data", data); !strings.Contains(list, id) {
		t.Errorf("it is in no list:\n%s", list)
	}
	if _, stderr, code := runPortalCommand(t, "token", "revoke", "--data", data, "no-such-token"); code != exitFailed || !strings.Contains(stderr, "there is no token") {
		t.Errorf("revoke of nothing: %d, %s", code, stderr)
	}
	p.end(t, syscall.SIGTERM)
}

// TestPortalMetrics scrapes a running portal.
func TestPortalMetrics(t *testing.T) {
	const addr = "127.0.0.1:9587"
	data := newPortalData(t)
	p := startPortal(t, data, "--metrics", addr)
	_, text := portalToken(t, data, "--relay")
	portalMessage[signal.RelayInit](t, portalDevice(t, signal.RoleRelay, text))
	body := scrape(t, addr, "/metrics")
	for _, line := range []string{"firelane_portal_relays 1", "firelane_portal_clients 0", `firelane_portal_channel_total{counter="Accepted"} 1`} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	p.end(t, syscall.SIGTERM)
}

package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/protocol/signal"
)

// noon is a time for what needs any.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// Policy files in requests are small, few values, and one at a time.
func TestPolicyFilesInRequestsAreBounded(t *testing.T) {
	p := start(t, policy)
	token := p.token(TokenWish{API: ReadScope})
	const head = "version: 1\naccounts: [{slug: acme, groups: [{name: g, members: ["
	for _, path := range []string{"/policy/check", "/policy/plan"} {
		if resp := p.call(token, "POST", path, head+strings.Repeat("a,", maxPolicyBody), nil); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s of 2 MiB: %s", path, resp.Status)
		}
		var told struct{ Problems []problemView }
		p.call(token, "POST", path, head+strings.Repeat("a,", maxPolicyMarks+1), &told)
		if len(told.Problems) != 1 || !strings.Contains(told.Problems[0].What, "too many values") {
			t.Errorf("%s of many values: %+v", path, told)
		}
		p.parsing <- struct{}{} // somebody else's is being read
		if resp := p.call(token, "POST", path, policy, nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s beside another: %s", path, resp.Status)
		}
		<-p.parsing
		if resp := p.call(token, "POST", path, policy, nil); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// upload sends flow records with a token.
func (p *testPortal) upload(token string, body io.Reader) (status int, err error) {
	p.ingests.mu.Lock()
	clear(p.ingests.fullAt) // an upload a second is for others to test
	p.ingests.mu.Unlock()
	r, err := http.NewRequest("POST", p.url+portal.IngestPath, body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func flowRecord() string {
	return fmt.Sprintf(`{"flow_logs":[{"protocol":"tcp","inner_src_ip":"100.64.0.1","inner_src_port":50122,"inner_dst_ip":"10.2.0.8",
		"inner_dst_port":443,"flow_start":%q}]}`, time.Now().UTC().Format(time.RFC3339Nano))
}

// ingestTokens are those of both ends of an authorization.
func ingestTokens(t *testing.T, p *testPortal) (client, gateway string) {
	t.Helper()
	ps := join(t, p)
	create, created := ps.authorize(t, p.resource("Office"))
	return created.IngestToken.Reveal(), create.IngestToken.Reveal()
}

// slowUpload begins an upload and sends nothing of it.
func (p *testPortal) slowUpload(token string) (body *io.PipeWriter, status <-chan int) {
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code, err := p.upload(token, r)
		if err != nil {
			p.t.Logf("slow upload: %v", err)
		}
		done <- code
	}()
	return w, done
}

// A device uploads one thing at a time: one that sends slowly keeps others from nothing.
func TestSlowUploadsKeepNobodyOut(t *testing.T) {
	p := start(t, policy)
	client, gateway := ingestTokens(t, p)
	body, status := p.slowUpload(client)
	eventually(t, "the slow upload has begun", func() bool { return len(p.ingesting) == 1 })
	for range maxIngesting {
		if code, err := p.upload(client, strings.NewReader(flowRecord())); code != http.StatusTooManyRequests {
			t.Errorf("another of the same device: %d, %v", code, err)
		}
	}
	if code, err := p.upload(gateway, strings.NewReader(flowRecord())); code != http.StatusOK {
		t.Errorf("one of another device: %d, %v", code, err)
	}
	fmt.Fprint(body, flowRecord())
	body.Close()
	if code := <-status; code != http.StatusOK {
		t.Errorf("the slow one: %d", code)
	}
	eventually(t, "the place is free", func() bool { return len(p.ingesting) == 0 })
	if code, err := p.upload(client, strings.NewReader(flowRecord())); code != http.StatusOK {
		t.Errorf("the next one: %d, %v", code, err)
	}
}

// Whoever sends nothing loses the place.
func TestUploadsHaveAPace(t *testing.T) {
	p := start(t, policy, func(o *Options) { o.uploadGrace = 50 * time.Millisecond })
	client, _ := ingestTokens(t, p)
	body, status := p.slowUpload(client)
	defer body.Close()
	if code := <-status; code != http.StatusRequestTimeout {
		t.Errorf("%d", code)
	}
	eventually(t, "the place is free", func() bool { return len(p.ingesting) == 0 })
}

// The pace is what has come, and a minute at most.
func TestPaceOfAnUpload(t *testing.T) {
	var until time.Time
	p := &pacedReader{
		r: strings.NewReader(strings.Repeat("x", 101*uploadRate)), began: noon, grace: uploadGrace,
		deadline: func(at time.Time) error { until = at; return nil },
	}
	read := func(n int64) time.Duration {
		t.Helper()
		if _, err := io.CopyN(io.Discard, p, n); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Read(nil); err != nil {
			t.Fatal(err)
		}
		return until.Sub(noon)
	}
	for _, step := range []struct {
		n    int64
		want time.Duration
	}{{0, uploadGrace}, {uploadRate, uploadGrace + time.Second}, {99 * uploadRate, requestTime}} {
		if got := read(step.n); got != step.want {
			t.Errorf("after %d bytes more: %v, want %v", step.n, got, step.want)
		}
	}
}

// Tokens of an account that has left the policy file are good for nothing.
func TestUploadsOfRemovedAccountsAreRefused(t *testing.T) {
	p := start(t, policy)
	account := p.accountOf("acme").ID
	client, gateway := ingestTokens(t, p)
	body, status := p.slowUpload(gateway)
	eventually(t, "the slow upload has begun", func() bool { return len(p.ingesting) == 1 })
	writePolicy(t, p.file, "version: 1\naccounts: [{slug: other}]\n")
	eventually(t, "the account has gone", func() bool { return p.accountOf("acme") == nil })
	if code, err := p.upload(client, strings.NewReader(flowRecord())); code != http.StatusUnauthorized {
		t.Errorf("%d, %v", code, err)
	}
	fmt.Fprint(body, flowRecord())
	body.Close()
	if code := <-status; code != http.StatusUnauthorized {
		t.Errorf("one that had begun: %d", code)
	}
	if n, err := p.store.Counts(t.Context(), account); err != nil || n.FlowLogs != 0 {
		t.Errorf("%d records, %v", n.FlowLogs, err)
	}
}

// A request that takes its time does not take that of devices, who are asked to come back.
func TestDevicesAreAskedBackWhateverRequestsDo(t *testing.T) {
	p := start(t, policy)
	c := p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), "client")
	next[signal.ClientInit](t, c)
	gateway := p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
	next[signal.GatewayInit](t, gateway)
	other := p.rawClient(t, p.token(TokenWish{ServiceAccount: "ci"}), nil)
	other.join()
	send(t, c, signal.RequestAuthorization{ResourceID: p.resource("Office")})
	create := next[signal.CreateAuthorization](t, gateway)
	body, _ := p.slowUpload(create.IngestToken.Reveal())
	defer body.Close()
	eventually(t, "the slow upload has begun", func() bool { return len(p.ingesting) == 1 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.stop()
	}()
	_, _, err := other.ws.Read(t.Context())
	select {
	case <-stopped:
		t.Error("the portal has ended before it asks devices back")
	default:
	}
	if err == nil || !strings.Contains(err.Error(), "StatusServiceRestart") {
		t.Errorf("the client is told: %v", err)
	}
	<-stopped
}

package server

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// takeBackup asks for a backup over TCP; the answer's body is the caller's.
func (p *testPortal) takeBackup(token string, body io.Reader) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "POST", p.url+apiPrefix+"/backup", body)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// unpack writes the files of a backup to a directory, as tar does, and returns their names.
func unpack(t *testing.T, archive io.Reader, dir string) (names []string) {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), text, h.FileInfo().Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		names = append(names, h.Name)
	}
}

// noCopies fails if there is a copy in the data directory, or a part of one.
func (p *testPortal) noCopies() {
	p.t.Helper()
	all, err := os.ReadDir(p.options.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range all {
		if strings.Contains(e.Name(), "backup") {
			p.t.Errorf("%s is left", e.Name())
		}
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wholeToken is a token that may take backups.
func (p *testPortal) wholeToken() string { return p.token(TokenWish{API: WriteScope, Portal: true}) }

// A backup taken over the API becomes a portal again by the steps that are documented: who was authorized still is.
func TestABackupOverTheAPICanBeRestored(t *testing.T) {
	var log lines
	p := start(t, policy, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ps := join(t, p)
	ps.authorize(t, p.resource("Office"))
	token := p.wholeToken()
	resp := p.takeBackup(token, nil)
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(text)) {
		t.Fatalf("%s, %d of %d bytes, %v", resp.Status, len(text), resp.ContentLength, err)
	}
	disposition := resp.Header.Get("Content-Disposition")
	made, err := time.Parse(`attachment; filename="portal-20060102T150405Z.tar"`, disposition)
	if age := time.Since(made); err != nil || age < 0 || age > patience {
		t.Errorf("it is to be saved as %s: %v", disposition, err)
	}
	if got := resp.Header.Get("Content-Type"); got != backupType || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", resp.Header)
	}
	p.noCopies()
	eventually(t, "the backup is logged", func() bool { return strings.Contains(log.String(), "a backup has been sent") })
	if got := log.String(); strings.Contains(got, token) || strings.Contains(got, "127.0.0.1") {
		t.Errorf("log: %s", got)
	}
	account := p.accountOf("acme").ID
	p.stop()

	if err := os.RemoveAll(p.options.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.options.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if names := unpack(t, bytes.NewReader(text), p.options.Data); !slices.Equal(names, []string{"portal.db.policy", "portal.db"}) {
		t.Fatalf("it has %v", names)
	}
	if err := os.Rename(filepath.Join(p.options.Data, "portal.db.policy"), InForcePath(p.options.Data)); err != nil {
		t.Fatal(err)
	}
	p.serve()
	all, err := p.store.Authorizations(t.Context(), account, store.AuthorizationFilter{}, time.Now())
	if err != nil || len(all) != 1 {
		t.Errorf("%d authorizations, %v", len(all), err)
	}
	next[signal.GatewayInit](t, p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "another gateway"))
	if resp := p.takeBackup(token, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("with the token that was backed up: %s", resp.Status)
	}
}

func TestBackupsAreForThePortalAsAWhole(t *testing.T) {
	p := start(t, policy)
	for token, want := range map[string]int{
		p.token(TokenWish{API: WriteScope}):              http.StatusForbidden,
		p.token(TokenWish{API: ReadScope}):               http.StatusForbidden,
		p.token(TokenWish{API: ReadScope, Portal: true}): http.StatusForbidden,
		p.token(TokenWish{Site: "berlin"}):               http.StatusUnauthorized,
		"":                                               http.StatusUnauthorized,
	} {
		if resp := p.call(token, "POST", "/backup", nil, nil); resp.StatusCode != want {
			t.Errorf("%s instead of %d", resp.Status, want)
		}
	}
	whole := p.wholeToken()
	if resp := p.call(whole, "POST", "/backup", "text", nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("with a body: %s", resp.Status)
	}
	if resp := p.takeBackup(whole, strings.NewReader("")); resp.StatusCode != http.StatusOK {
		t.Errorf("with an empty body: %s", resp.Status)
	}
	p.noCopies()
}

// reader takes an answer as somebody far away would; write takes one piece.
type reader struct {
	*httptest.ResponseRecorder
	write     func([]byte) error
	deadlines []time.Time
	largest   int
}

func (r *reader) SetWriteDeadline(at time.Time) error {
	r.deadlines = append(r.deadlines, at)
	return nil
}

func (r *reader) Write(b []byte) (int, error) {
	r.largest = max(r.largest, len(b))
	if err := r.write(b); err != nil {
		return 0, err
	}
	return r.ResponseRecorder.Write(b)
}

// readBackup has r take a backup, without a connection.
func (p *testPortal) readBackup(token string, r *reader) {
	q := httptest.NewRequest("POST", apiPrefix+"/backup", http.NoBody)
	q.Header.Set("Authorization", "Bearer "+token)
	r.ResponseRecorder = httptest.NewRecorder()
	p.Handler().ServeHTTP(r, q)
}

// While one backup is taken there is no other, and its copy has no name already.
func TestOneBackupAtATime(t *testing.T) {
	p := start(t, policy)
	token := p.wholeToken()
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := &reader{write: func([]byte) error {
		once.Do(func() { close(reading); <-goOn })
		return nil
	}}
	done := make(chan struct{})
	go func() { defer close(done); p.readBackup(token, first) }()
	select {
	case <-reading:
	case <-time.After(patience):
		t.Fatal("nothing is sent")
	}
	p.noCopies()
	if resp := p.call(token, "POST", "/backup", nil, nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "10" {
		t.Errorf("another: %s %v", resp.Status, resp.Header)
	}
	p.token(TokenWish{Site: "berlin"}) // writes go on
	close(goOn)
	<-done
	dir := t.TempDir()
	unpack(t, first.Body, dir)
	fi, err := os.Stat(DatabasePath(dir))
	if err != nil || first.largest != int(min(fi.Size(), backupPiece)) {
		t.Errorf("the largest piece has %d bytes, %v", first.largest, err)
	}
	s, err := store.Open(t.Context(), DatabasePath(dir), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tokens, err := s.Tokens(t.Context(), p.accountOf("acme").ID, store.TokenFilter{})
	if err != nil || len(tokens) != 0 {
		t.Errorf("the copy has %+v, %v, made after it", tokens, err)
	}
	if resp := p.takeBackup(token, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// Each piece has a time of its own, and a reader that does not take one loses its place.
func TestASlowReaderLosesItsBackup(t *testing.T) {
	p := start(t, policy)
	token := p.wholeToken()
	began, n := time.Now(), 0
	slow := &reader{write: func([]byte) error {
		if n++; n > 3 {
			return fmt.Errorf("write: %w", os.ErrDeadlineExceeded)
		}
		return nil
	}}
	p.readBackup(token, slow)
	if n != 4 || len(slow.deadlines) != n || slow.largest > backupPiece {
		t.Errorf("%d pieces with %d deadlines, the largest of %d bytes", n, len(slow.deadlines), slow.largest)
	}
	for _, at := range slow.deadlines {
		if at.Before(began.Add(backupWait)) || at.After(time.Now().Add(backupWait)) {
			t.Errorf("a deadline is after %v", at.Sub(began))
		}
	}
	p.noCopies()
	if resp := p.takeBackup(token, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

func TestAnAbortedBackupLeavesNothing(t *testing.T) {
	p := start(t, policy)
	token := p.wholeToken()
	resp := p.takeBackup(token, nil)
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "the place is free", func() bool {
		p.backups.mu.Lock()
		defer p.backups.mu.Unlock()
		return p.backups.cancel == nil
	})
	p.noCopies()
	if resp := p.takeBackup(token, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// A copy that cannot be made leaves nothing, and the place is free.
func TestABackupThatFails(t *testing.T) {
	p := start(t, policy)
	token := p.wholeToken()
	gone := &reader{write: func([]byte) error { return nil }}
	if err := os.Rename(InForcePath(p.options.Data), InForcePath(p.options.Data)+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(inForceName, InForcePath(p.options.Data)); err != nil { // to itself
		t.Fatal(err)
	}
	for range 2 {
		p.readBackup(token, gone)
		if gone.Code != http.StatusInternalServerError || strings.Contains(gone.Body.String(), p.dir) {
			t.Errorf("%d %s", gone.Code, gone.Body)
		}
	}
	p.noCopies()
	if err := os.Remove(InForcePath(p.options.Data)); err != nil {
		t.Fatal(err)
	}
	resp := p.takeBackup(token, nil)
	if names := unpack(t, resp.Body, t.TempDir()); !slices.Equal(names, []string{"portal.db"}) {
		t.Errorf("without a policy file in force: %v", names)
	}
}

func TestWhatACrashLeftOfABackupIsRemoved(t *testing.T) {
	p := start(t, policy)
	p.stop()
	left := filepath.Join(p.options.Data, backupDirName, ".backup-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "copy"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.serve()
	p.noCopies()
}

// The portal's end ends a backup and waits for it; none begins after.
func TestBackupsEndWithThePortal(t *testing.T) {
	var b backups
	ctx, end, ok := b.begin(t.Context())
	if !ok {
		t.Fatal("there is no place")
	}
	closed := make(chan struct{})
	go func() { defer close(closed); b.close() }()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Fatal("the backup goes on")
	}
	select {
	case <-closed:
		t.Error("it has not been waited for")
	default:
	}
	if _, err := (&steadyWriter{ctx, io.Discard, func(time.Time) error { return nil }}).Write([]byte("x")); !errors.Is(err, ctx.Err()) {
		t.Errorf("write: %v", err)
	}
	end()
	<-closed
	if _, _, ok := b.begin(t.Context()); ok {
		t.Error("another begins")
	}
}

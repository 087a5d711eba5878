package main

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/server"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// TestHangupWhileThePortalStarts sends SIGHUP while the database is locked by somebody else: the portal must
// go on once it is free.
func TestHangupWhileThePortalStarts(t *testing.T) {
	data := newPortalData(t)
	portalToken(t, data, "--relay") // makes the database
	db, err := sql.Open("sqlite", server.DatabasePath(data))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	p := launchPortal(t, data)
	await(t, "listens", func() bool {
		c, err := net.Dial("tcp", portalAddr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	awaitPortal(t)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, &p.stderr)
	}
}

// authorized has a client get an authorization from a portal, which is then ended, and returns what it is.
func authorized(t *testing.T, data string) signal.CreateAuthorization {
	t.Helper()
	p := startPortal(t, data)
	_, relayToken := portalToken(t, data, "--relay")
	_, gatewayToken := portalToken(t, data, "--site", "berlin")
	_, clientToken := portalToken(t, data, "--service-account", "ci")
	portalMessage[signal.RelayInit](t, portalDevice(t, signal.RoleRelay, relayToken))
	gateway := portalDevice(t, signal.RoleGateway, gatewayToken)
	portalMessage[signal.GatewayInit](t, gateway)
	client := portalDevice(t, signal.RoleClient, clientToken)
	init := portalMessage[signal.ClientInit](t, client)
	if err := client.Send(signal.RequestAuthorization{ResourceID: init.Resources[0].ID}); err != nil {
		t.Fatal(err)
	}
	create := portalMessage[signal.CreateAuthorization](t, gateway)
	if _, stderr, code := runPortalCommand(t, "backup", "--data", data, filepath.Join(data, "copy.db")); code != 0 {
		t.Fatalf("backup: %s", stderr)
	}
	p.end(t, syscall.SIGTERM)
	return create
}

// authorizations are those in the database of a portal that does not run.
func authorizations(t *testing.T, data string) []store.Authorization {
	t.Helper()
	s, err := store.Open(t.Context(), server.DatabasePath(data), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accounts, err := s.Accounts(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Authorization
	for _, a := range accounts {
		some, err := s.Authorizations(t.Context(), a, store.AuthorizationFilter{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// TestPortalBackup copies the database of a portal that runs, and restores the copy elsewhere as the manual
// says: authorizations hold on. Without the policy file that belongs to it, the portal says that it revokes
// all of them, and why.
func TestPortalBackup(t *testing.T) {
	data := newPortalData(t)
	create := authorized(t, data)
	copied := filepath.Join(data, "copy.db")
	if _, stderr, code := runPortalCommand(t, "backup", "--data", data, copied); code != exitFailed || !strings.Contains(stderr, "exists") {
		t.Errorf("over a file that is there: exit code %d, %s", code, stderr)
	}
	restore := func(names map[string]string) string {
		t.Helper()
		fresh := newPortalData(t)
		for from, to := range names {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(fresh, to), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return fresh
	}
	whole := restore(map[string]string{copied: "portal.db", copied + ".policy": "policy.in-force"})
	p := startPortal(t, whole)
	p.end(t, syscall.SIGTERM)
	if left := authorizations(t, whole); len(left) != 1 || left[0].Client != create.Client.ID.String() || strings.Contains(p.stderr.String(), "revoked") {
		t.Errorf("restored with its policy file: %v, log:\n%s", left, &p.stderr)
	}
	half := restore(map[string]string{copied: "portal.db"})
	p = startPortal(t, half)
	p.end(t, syscall.SIGTERM)
	if left := authorizations(t, half); len(left) != 0 || !strings.Contains(p.stderr.String(), "policy.in-force") || !strings.Contains(p.stderr.String(), "authorizations=1") {
		t.Errorf("restored without: %v, log:\n%s", left, &p.stderr)
	}
}

// TestManualOfThePortal holds the manual to the program: its policy files are good, its commands and flags
// exist.
func TestManualOfThePortal(t *testing.T) {
	text, err := os.ReadFile("../../docs/portal.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	commands := 0
	for i, block := range strings.Split(string(text), "```") {
		language, body, _ := strings.Cut(block, "\n")
		switch {
		case i%2 == 0:
		case language == "yaml":
			files = append(files, body)
		case language == "sh":
			for line := range strings.Lines(strings.ReplaceAll(body, "\\\n", "")) {
				if _, command, ok := strings.Cut(line, "firelane portal "); ok {
					commands++
					checkCommand(t, command)
				}
			}
		}
	}
	if len(files) != 2 || commands < 10 {
		t.Fatalf("%d policy files, %d commands", len(files), commands)
	}
	files[1] = "version: 1\naccounts:\n  - slug: acme\n" + files[1]
	for _, f := range files {
		if _, err := config.Parse("portal.md", []byte(f)); err != nil {
			t.Error(err)
		}
	}
}

// checkCommand looks for a command's verbs and flags.
func checkCommand(t *testing.T, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, "#")
	args := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ")"))
	c, rest, err := newPortal().Find(args)
	if err != nil {
		t.Errorf("%q: %v", line, err)
		return
	}
	for _, a := range rest {
		if name, ok := strings.CutPrefix(a, "--"); ok && c.Flags().Lookup(name) == nil {
			t.Errorf("%q: there is no flag %s", line, a)
		}
	}
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// noon is the time of tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "portal.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func reopen(t testing.TB, s *Store, o Options) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), s.path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
	return again
}

// must returns v and fails the test on an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// device connects a device of account a.
func device(t testing.TB, s *Store, account string, kind DeviceKind, external string) Device {
	t.Helper()
	d, _, err := s.ConnectDevice(t.Context(), DeviceNews{
		DeviceKey: DeviceKey{Account: account, Kind: kind, Owner: "owner", ExternalID: external},
		Name:      external, PublicKey: [32]byte{1}, Attributes: map[string]string{"os": "Debian"},
	}, noon)
	check(t, err)
	return d
}

func TestDatabaseIsPrivateAndDurable(t *testing.T) {
	s := open(t, Options{})
	device(t, s, "acme", Client, "x")
	for _, name := range []string{s.path, s.path + "-wal"} {
		if fi := must(os.Stat(name))(t); fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	// Commits are synced by the writer: see TestWritesAreConfirmedAfterTheSync.
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "1", "foreign_keys": "1", "wal_autocheckpoint": "0"} {
		got := must(write(t.Context(), s, func(t *tx) (v string, err error) {
			return v, t.row("PRAGMA " + pragma).Scan(&v)
		}))(t)
		if got != want {
			t.Errorf("the writer has %s = %s, want %s", pragma, got, want)
		}
	}
	if _, err := s.reads.Exec("DELETE FROM devices"); err == nil {
		t.Error("a reading connection can write")
	}
}

func TestMigrationRefusesForeignAndNewerFiles(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db := must(sql.Open("sqlite", foreign))(t)
	must(db.Exec("CREATE TABLE devices (x)"))(t)
	check(t, db.Close())
	_, err := Open(t.Context(), foreign, Options{})
	wantErr(t, err, ErrForeign)

	s := open(t, Options{})
	must(s.writes.Exec("PRAGMA user_version = 99"))(t)
	check(t, s.Close())
	_, err = Open(t.Context(), s.path, Options{})
	wantErr(t, err, ErrNewer)
}

func TestStepsMustBeNumberedWithoutGaps(t *testing.T) {
	good := fstest.MapFS{"schema/0001_a.sql": {Data: []byte("A")}, "schema/0002_b.sql": {Data: []byte("B")}}
	if got := must(steps(good))(t); strings.Join(got, "") != "AB" {
		t.Errorf("steps are %q", got)
	}
	for _, bad := range []fstest.MapFS{
		{"schema/0002_b.sql": {}},
		{"schema/0001_a.sql": {}, "schema/0003_c.sql": {}},
		{"schema/1_a.sql": {}},
	} {
		if _, err := steps(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// A step that fails leaves the database as it was before.
func TestFailedMigrationChangesNothing(t *testing.T) {
	db := must(sql.Open("sqlite", filepath.Join(t.TempDir(), "x.db")))(t)
	defer db.Close()
	c := must(db.Conn(t.Context()))(t)
	defer c.Close()
	if _, err := step(t.Context(), c, []string{"CREATE TABLE a (x); CREATE TABLE a (x);"}); err == nil {
		t.Fatal("a broken step is accepted")
	}
	var tables int
	check(t, c.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema").Scan(&tables))
	if tables != 0 {
		t.Errorf("%d tables are left", tables)
	}
}

func TestBackupIsADatabase(t *testing.T) {
	s := open(t, Options{})
	d := device(t, s, "acme", Gateway, "g")
	path := filepath.Join(t.TempDir(), "it's a copy.db")
	check(t, s.Backup(t.Context(), path))
	device(t, s, "acme", Gateway, "later")
	if err := s.Backup(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("backup over a file: %v", err)
	}
	if fi := must(os.Stat(path))(t); fi.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v", fi.Mode())
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("the backup leaves %v behind", left)
	}
	b := must(Open(t.Context(), path, Options{}))(t)
	defer b.Close()
	all := must(b.Devices(t.Context(), "acme", DeviceFilter{}))(t)
	if len(all) != 1 || all[0].ID != d.ID || all[0].IPv6 != d.IPv6 {
		t.Errorf("the backup has %+v", all)
	}
}

func TestForeignChangesAreNoticedAndOwnOnesAreNot(t *testing.T) {
	s := open(t, Options{})
	before := must(s.ForeignChanges(t.Context()))(t)
	device(t, s, "acme", Client, "own")
	if now := must(s.ForeignChanges(t.Context()))(t); now != before {
		t.Errorf("an own write counts as foreign: %d, %d", before, now)
	}
	other := must(Open(t.Context(), s.path, Options{}))(t)
	device(t, other, "acme", Client, "foreign")
	check(t, other.Close())
	if now := must(s.ForeignChanges(t.Context()))(t); now == before {
		t.Error("a foreign write is not noticed")
	}
	groups := s.Stats().Groups
	for range 10 {
		must(s.ForeignChanges(t.Context()))(t)
	}
	if n := s.Stats().Groups - groups; n > 0 {
		t.Errorf("looking has taken %d transactions", n)
	}
	check(t, s.Close())
	_, err := s.ForeignChanges(t.Context())
	wantErr(t, err, ErrClosed)
}

func TestAccountsSeeOnlyTheirOwn(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	c, g := device(t, s, "a", Client, "c"), device(t, s, "a", Gateway, "g")
	check(t, s.PutAuthorization(ctx, authorization(c, g, "id")))
	k, _, err := s.CreateToken(ctx, TokenOrder{Account: "a", Kind: GatewayToken, Subject: "site"}, noon)
	check(t, err)
	p := must(s.SignIn(ctx, Identity{Account: "a", Issuer: "i", Subject: "s"}, noon))(t)
	must(s.Secret(ctx, "a", "key", 32))(t)
	must(s.PutFlowLogs(ctx, "a", []FlowLog{flow(1)}))(t)

	_, err = s.Device(ctx, "b", c.ID)
	wantErr(t, err, ErrNotFound)
	_, err = s.DeviceByAddress(ctx, "b", c.IPv4)
	wantErr(t, err, ErrNotFound)
	_, _, err = s.DeleteDevice(ctx, "b", c.ID)
	wantErr(t, err, ErrNotFound)
	wantErr(t, s.SetVerified(ctx, "b", c.ID, true), ErrNotFound)
	_, err = s.Token(ctx, "b", k.ID)
	wantErr(t, err, ErrNotFound)
	_, err = s.RevokeToken(ctx, "b", k.ID, noon)
	wantErr(t, err, ErrNotFound)
	_, err = s.Person(ctx, "b", p.ID)
	wantErr(t, err, ErrNotFound)
	_, err = s.Setting(ctx, "b", "key")
	wantErr(t, err, ErrNotFound)
	wrong := authorization(c, g, "other")
	wrong.Account = "b"
	wantErr(t, s.PutAuthorization(ctx, wrong), ErrNotFound)
	n := len(must(s.Devices(ctx, "b", DeviceFilter{}))(t)) + len(must(s.Tokens(ctx, "b", TokenFilter{}))(t)) +
		len(must(s.People(ctx, "b", "", 0))(t)) + len(must(s.FlowLogs(ctx, "b", FlowLogFilter{}))(t)) +
		len(must(s.Authorizations(ctx, "b", AuthorizationFilter{}, noon))(t)) + len(must(s.Revoke(ctx, "b", AuthorizationFilter{ID: "id"}))(t))
	if n != 0 {
		t.Errorf("account b sees %d rows of account a", n)
	}
	if got := must(s.Counts(ctx, "a"))(t); got != (Counts{Devices: 2, Tokens: 1, Authorizations: 1, People: 1, FlowLogs: 1, FlowLogBytes: 5}) {
		t.Errorf("counts of a: %+v", got)
	}
	if got := must(s.Accounts(ctx, "", 0))(t); len(got) != 1 || got[0] != "a" {
		t.Errorf("accounts %v", got)
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t, Options{})
	check(t, s.Close())
	check(t, s.Close())
	wantErr(t, s.PutSetting(t.Context(), "a", "x", nil), ErrClosed)
	if _, err := s.Setting(t.Context(), "a", "x"); err == nil {
		t.Error("a closed store reads")
	}
}

func TestSecretIsMadeOnceAndKept(t *testing.T) {
	s := open(t, Options{})
	got := make(chan string)
	for range 8 {
		go func() {
			v, err := s.Secret(context.Background(), Portal, "psk", 32)
			if err != nil {
				t.Error(err)
			}
			got <- string(v)
		}()
	}
	one := <-got
	for range 7 {
		if other := <-got; other != one || len(one) != 32 {
			t.Errorf("secrets differ: %x, %x", one, other)
		}
	}
	s = reopen(t, s, Options{})
	if v := must(s.Secret(t.Context(), Portal, "psk", 32))(t); string(v) != one {
		t.Error("the secret is not kept")
	}
	check(t, s.PutSetting(t.Context(), Portal, "x", nil))
	if v := must(s.Setting(t.Context(), Portal, "x"))(t); len(v) != 0 {
		t.Errorf("empty setting is %x", v)
	}
	wantErr(t, s.PutSetting(t.Context(), Portal, "x", make([]byte, maxSetting+1)), ErrInvalid)
	_, err := s.Secret(t.Context(), Portal, "short", 8)
	wantErr(t, err, ErrInvalid)
}

func flow(n int) FlowLog {
	return FlowLog{
		FlowKey: FlowKey{
			Initiator: "device", Role: "initiator", Start: noon.Add(time.Duration(n) * time.Microsecond), Protocol: "tcp",
			Src: netip.MustParseAddrPort("100.64.0.1:5000"), Dst: netip.MustParseAddrPort("10.0.0.1:443"), Resource: "resource",
		},
		Body: []byte("begun"),
	}
}

func authorization(c, g Device, id string) Authorization {
	return Authorization{
		Account: c.Account, ID: id, Client: c.ID, Gateway: g.ID, Resource: "resource-" + id, Policy: "policy",
		Created: noon, Expires: noon.Add(time.Hour),
	}
}

package server

import (
	"strings"
	"testing"

	"github.com/firelane/firelane/portal/store"
)

// One portal runs on a data directory; what subcommands do is possible beside it. When it has ended, in
// whatever way, another may begin.
func TestOnePortalRunsOnADataDirectory(t *testing.T) {
	p := start(t, policy)
	o := p.options
	second, err := Open(t.Context(), o)
	if err == nil {
		second.Close()
		t.Fatal("a second portal starts")
	}
	if text := err.Error(); !strings.Contains(text, o.Data) || !strings.Contains(text, "--data") || strings.Contains(text, "\n") {
		t.Errorf("it says %q", text)
	}
	id, text := p.tokenAndID(TokenWish{ServiceAccount: "ci"})
	if _, err := p.otherHandle().RevokeToken(t.Context(), p.accountOf("acme").ID, id, noon); err != nil {
		t.Error(err)
	}
	eventually(t, "the revocation is known", func() bool {
		_, err := p.store.Authenticate(t.Context(), text, noon, store.ServiceToken)
		return err != nil
	})
	p.stop()
	for range 2 {
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

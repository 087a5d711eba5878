package server

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// breakable makes the disk fail when broken is set.
func breakable(broken *atomic.Bool) func(*Options) {
	return func(o *Options) {
		o.sync = func(f *os.File) error {
			if broken.Load() {
				return errors.New("the disk is gone")
			}
			return unix.Fdatasync(int(f.Fd()))
		}
	}
}

// While the disk fails, nobody can end what belongs to another account; what is one's own is ended although
// it cannot be confirmed.
func TestAFailingDiskGivesNoRightsInOtherAccounts(t *testing.T) {
	var broken atomic.Bool
	p := start(t, policy, breakable(&broken))
	id, token := p.tokenAndID(TokenWish{ServiceAccount: "ci"})
	own, foreign := p.token(TokenWish{API: WriteScope}), p.token(TokenWish{Account: "other", API: WriteScope})
	c := p.rawClient(t, token, nil)
	c.join()
	device := p.onlyClient()
	broken.Store(true)
	for _, path := range []string{"/tokens/" + id, "/devices/" + device} {
		if resp := p.call(foreign, "DELETE", path, nil, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("another account's %s: %s", path, resp.Status)
		}
	}
	if n := p.driver.stats().Clients; n != 1 {
		t.Fatalf("%d clients are connected", n)
	}
	if resp := p.call(own, "DELETE", "/tokens/"+id, nil, nil); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("%s", resp.Status)
	}
	c.until("disconnect")
}

// A device whose deletion may be on the disk is told that it is another now.
func TestAFailingDiskEndsDeletedDevices(t *testing.T) {
	var broken atomic.Bool
	p := start(t, policy, breakable(&broken))
	admin := p.token(TokenWish{API: WriteScope})
	c := p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), "client")
	next[signal.ClientInit](t, c)
	device := p.onlyClient()
	broken.Store(true)
	if resp := p.call(admin, "DELETE", "/devices/"+device, nil, nil); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("%s", resp.Status)
	}
	next[signal.Disconnected](t, c)
}

// What may be on the disk is told to devices; what has been withdrawn before its turn is not, nor is what the
// store refuses.
func TestWhatMayBeOnTheDisk(t *testing.T) {
	for err, want := range map[error]bool{
		nil: true, store.ErrUncertain: true, context.DeadlineExceeded: false, store.ErrNotFound: false, store.ErrBusy: false, store.ErrClosed: false,
	} {
		if perhaps(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

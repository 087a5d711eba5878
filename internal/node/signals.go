package node

import (
	"context"
	"os"
	"os/signal"
)

// onSignal asks for a signal, and returns what calls f at each until ctx is done.
func onSignal(ctx context.Context, s os.Signal, f func()) (run func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, s)
	return func() {
		defer signal.Stop(asked)
		for {
			select {
			case <-asked:
				f()
			case <-ctx.Done():
				return
			}
		}
	}
}

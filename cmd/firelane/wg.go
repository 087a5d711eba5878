package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/firelane/firelane/internal/node"
)

// newWG returns `firelane wg`: a stand-in for wireguard-go, with the same command line,
// environment and configuration socket.
func newWG() *cobra.Command {
	var f wgFlags
	c := &cobra.Command{
		Use:   "wg [flags] INTERFACE",
		Short: "Run a WireGuard interface, configured through wg(8)",
		Long: `Run a WireGuard interface in user space, as wireguard-go does. It goes to the
background once the interface exists; configure it with wg(8), end it with
"ip link delete INTERFACE".

Environment:
  LOG_LEVEL              verbose or debug, info, warn, error (default), silent
  WG_PROCESS_FOREGROUND  1 is the same as --foreground
  WG_TUN_FD              use this open TUN file descriptor (one queue)
  WG_UAPI_FD             use this open listening configuration socket
  WG_TUN_NAME_FILE       write the interface's name to this file`,
		Version:               version(),
		DisableFlagsInUseLine: true,
		Args:                  oneInterface,
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := parseWG(f, args[0], os.LookupEnv)
			if err != nil {
				return err
			}
			return runWG(cfg)
		},
	}
	f.register(c.Flags())
	return c
}

func oneInterface(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("no interface name given")
	case 1:
		return nil
	}
	return fmt.Errorf("want one interface name, got %d arguments", len(args))
}

// runWG runs the interface until a signal, or hands that to a process in the background.
func runWG(cfg wgConfig) error {
	if !cfg.foreground {
		return startInBackground(cfg)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	parent := parentOf(cfg)
	static, err := open(cfg)
	if err != nil {
		return &failure{err: err, told: parent.tell(err)}
	}
	parent.tell(nil)
	if err := node.RunStatic(ctx, static); err != nil {
		return &failure{err: fmt.Errorf("run interface %s: %w", static.Name, err)}
	}
	return nil
}

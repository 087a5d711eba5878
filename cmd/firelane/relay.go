package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// newRelay returns `firelane relay`: a STUN and TURN server that joins a portal, with the command
// line and the environment of Firezone's relay, or that serves users of its own.
func newRelay() *cobra.Command {
	var f relayFlags
	c := &cobra.Command{
		Use:   "relay [flags] [TOKEN [NAME]]",
		Short: "Run a STUN and TURN relay",
		Long: `Run a relay: clients and gateways that cannot reach each other directly meet here.

With a portal, which hands out the credentials:
  FIREZONE_TOKEN=… firelane relay --api-url wss://api.example.com --public-ip4-addr 192.0.2.1
Without one, for whoever knows the secret, by passwords that expire (user name EXPIRY:SALT,
password base64(SHA-256("EXPIRY:SECRET:SALT")) without padding, realm firezone):
  firelane relay --secret-file FILE --public-ip4-addr 192.0.2.1
Without one, for the users in a file with lines NAME:PASSWORD:
  firelane relay --users-file FILE --public-ip4-addr 192.0.2.1

Data travels over channels only: Send and Data indications are not supported.

SIGTERM and SIGINT take leave of the portal, refuse new allocations, and end the relay when there
are no allocations left or --drain-timeout is over; a second signal ends it at once. SIGUSR1 logs
the counters.

Environment, where the command line says nothing:
  FIREZONE_TOKEN     the token, which as an argument all users of the host see; or a systemd
                     credential of this name
  FIREZONE_NAME      the name to show to administrators
  FIREZONE_API_URL   --api-url
  LOG_LEVEL          --log-level; RUST_LOG is understood, too
  LISTEN_PORT and so on for each flag of Firezone's relay, FIRELANE_DRAIN_TIMEOUT and so on for
  the others: --max-channels is FIRELANE_MAX_CHANNELS.`,
		Version:               version(),
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return fmt.Errorf("want TOKEN and NAME at most, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := applyEnv(c.Flags(), relayVariable, os.LookupEnv); err != nil {
				return err
			}
			cfg, err := parseRelay(f, args, os.LookupEnv)
			if err != nil {
				return err
			}
			return runRelay(cfg)
		},
	}
	f.register(c.Flags())
	return c
}

// runRelay runs the relay until a signal.
func runRelay(cfg relayConfig) error {
	signals := make(chan os.Signal, 8) // more than a person sends before the first is handled
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(signals)
	s, err := openRelay(cfg)
	if err == nil {
		err = s.run(signals)
	}
	if err != nil {
		return &failure{err: err}
	}
	return nil
}

// Command pion runs the server of github.com/pion/turn by itself, with one user, for the relay's
// benchmark: a listening socket for each processor on one port (SO_REUSEPORT), which is the
// fastest way its authors show.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/pion/turn/v4"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pion: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("pion", flag.ContinueOnError)
	public := f.String("public", "", "IPv4 address of relayed ports")
	port := f.Uint("port", 3478, "listening port")
	user := f.String("user", "", "name of the only user")
	password := f.String("password", "", "the user's password")
	if err := f.Parse(args); err != nil {
		return err
	}
	const realm = "bench"
	key := turn.GenerateAuthKey(*user, realm, *password)
	relayed := &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(*public), Address: "0.0.0.0"}
	config := turn.ServerConfig{Realm: realm, AuthHandler: func(name, _ string, _ net.Addr) ([]byte, bool) {
		return key, name == *user
	}}
	for range runtime.NumCPU() {
		c, err := listen(*port)
		if err != nil {
			return err
		}
		config.PacketConnConfigs = append(config.PacketConnConfigs, turn.PacketConnConfig{PacketConn: c, RelayAddressGenerator: relayed})
	}
	server, err := turn.NewServer(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Close()
}

// listen opens one of several sockets on the port.
func listen(port uint) (net.PacketConn, error) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if err != nil {
			return err
		}
		return set
	}}
	return shared.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", port))
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// contender is a gateway that can be built from this module.
type contender struct {
	name string
	// pkg is the main package, module what its version is read from.
	pkg, module string
	// args come before -f IFNAME.
	args []string
}

// contenders by name. The rivals are pinned as tools in go.mod.
var contenders = []contender{
	{name: firelane, pkg: "./cmd/firelane", args: []string{"wg"}},
	{name: wireguardGo, pkg: "golang.zx2c4.com/wireguard", module: "golang.zx2c4.com/wireguard"},
	{name: tailscale, pkg: "github.com/tailscale/wireguard-go", module: "github.com/tailscale/wireguard-go"},
}

// singlesClient is the other end of rows whose datagrams arrive one by one: it neither sends trains
// nor lets packets gather.
var singlesClient = contender{name: firelane + "-singles", pkg: "./cmd/firelane", args: []string{"wg", "--no-gso", "--wakeup-delay", "0"}}

func contenderNamed(name string) (contender, error) {
	var names []string
	for _, c := range contenders {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return contender{}, fmt.Errorf("no gateway is called %q; there are %s", name, strings.Join(names, ", "))
}

// build compiles the contender into dir and returns how to run it.
func (c contender) build(ctx context.Context, root, dir string) (topology.Command, error) {
	bin := filepath.Join(dir, c.name)
	if _, err := module.Go(ctx, root, "build", "-o", bin, c.pkg); err != nil {
		return topology.Command{}, err
	}
	return topology.Command{Name: c.name, Argv: append([]string{bin}, c.args...)}, nil
}

// version names what the contender is built from: a module version, or this work tree.
func (c contender) version(ctx context.Context, root string) (report.Version, error) {
	if c.module == "" {
		return report.Version{Name: c.name, Version: "this work tree"}, nil
	}
	out, err := module.Go(ctx, root, "list", "-m", "-f", "{{.Version}}", c.module)
	return report.Version{Name: c.name, Version: c.module + " " + strings.TrimSpace(string(out))}, err
}

const (
	firelane    = "firelane"
	wireguardGo = "wireguard-go"
	tailscale   = "tailscale"
)

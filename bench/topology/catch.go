package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Catch has the gateway's kernel count the data messages of the client's tunnel and drop them as
// they come off the wire: the gateway's process sees none. Handshakes pass. stop ends that and
// returns how many of size bytes, WireGuard's header and tag included, have come.
func (n *Network) Catch(ctx context.Context) (stop func(ctx context.Context, size int) (uint64, error), err error) {
	device := "to-" + Client.String()
	rules := fmt.Sprintf(`table netdev %s { chain caught {
		type filter hook ingress device "%s" priority 0;
		udp dport %d @th,64,8 %d meta length > %d counter drop
	}
	}`, catchTable, device, port(Gateway), dataType, n.headers()+emptyMessage)
	if _, err := n.Run(ctx, Gateway, strings.NewReader(rules), "nft", "-f", "-"); err != nil {
		return nil, fmt.Errorf("catch the client's messages: %w", err)
	}
	return func(ctx context.Context, size int) (uint64, error) {
		out, err := n.Run(ctx, Gateway, nil, "nft", "-j", "list", "chain", "netdev", catchTable, "caught")
		_, undo := n.Run(ctx, Gateway, nil, "nft", "delete", "table", "netdev", catchTable)
		if err = errors.Join(err, undo); err != nil {
			return 0, fmt.Errorf("count the client's messages: %w", err)
		}
		return countCaught(out, n.headers(), size)
	}, nil
}

// countCaught reads the counter of the only rule in a chain as nft -j lists it. What the kernel
// counts as a packet may be a train of messages of one size, which has headers once.
func countCaught(list []byte, headers, size int) (uint64, error) {
	var doc struct {
		Nftables []struct {
			Rule struct {
				Expr []struct {
					Counter *struct{ Packets, Bytes uint64 }
				}
			}
		}
	}
	if err := json.Unmarshal(list, &doc); err != nil {
		return 0, fmt.Errorf("parse nft's output: %w", err)
	}
	for _, o := range doc.Nftables {
		for _, e := range o.Rule.Expr {
			if c := e.Counter; c != nil {
				return (c.Bytes - c.Packets*uint64(headers)) / uint64(size), nil
			}
		}
	}
	return 0, errors.New("parse nft's output: no counter in it")
}

// headers is the length of IP and UDP header outside.
func (n *Network) headers() int {
	if n.cfg.Outer6 {
		return 40 + 8
	}
	return 20 + 8
}

const (
	catchTable = "bench"
	// dataType is the first byte of a data message, and emptyMessage the length of one that
	// carries nothing: a keepalive.
	dataType, emptyMessage = 4, 32
)

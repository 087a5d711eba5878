package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/firelane/firelane/internal/node"
	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/uapi"
)

// open makes, or takes over, the tunnel and the configuration socket. From then on the
// interface exists and tools that connect to the socket wait for an answer.
func open(cfg wgConfig) (node.StaticConfig, error) {
	dev, err := openTunnel(cfg)
	if err != nil {
		return node.StaticConfig{}, err
	}
	l, err := openUAPI(cfg, dev.Name())
	if err != nil {
		dev.Close()
		return node.StaticConfig{}, err
	}
	metrics, err := openMetrics(cfg.metrics)
	if err != nil {
		l.Close()
		dev.Close()
		return node.StaticConfig{}, err
	}
	if err := writeName(cfg.nameFile, dev.Name()); err != nil {
		if metrics != nil {
			metrics.Close()
		}
		l.Close()
		dev.Close()
		return node.StaticConfig{}, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.level}))
	return node.StaticConfig{
		Name:        dev.Name(),
		Tun:         dev,
		UAPI:        l,
		Metrics:     metrics,
		Queues:      cfg.queues,
		GSO:         !cfg.noGSO,
		GRO:         !cfg.noGRO,
		Pin:         cfg.pin,
		WakeupDelay: cfg.wakeupDelay,
		RaiseLimits: !cfg.noRaiseLimits,
		PolicyFile:  cfg.policy,
		Log:         log.With("interface", dev.Name()),
	}, nil
}

// mtu is what WireGuard interfaces start with: 1500 less 80 for the outer headers over IPv6.
const mtu = 1420

func openTunnel(cfg wgConfig) (*tun.Device, error) {
	o := tun.Options{Queues: cfg.queues, MTU: mtu, TSO: !cfg.noTSO, USO: !cfg.noUSO, Csum: true}
	if cfg.tunFD >= 0 {
		dev, err := tun.FromFD(cfg.tunFD, o)
		if err != nil {
			return nil, fmt.Errorf("%s is not a usable TUN file descriptor: %w", envTunFD, err)
		}
		return dev, nil
	}
	dev, err := tun.Create(cfg.name, o)
	if err != nil {
		return nil, explainTunnel(cfg.name, err)
	}
	return dev, nil
}

// explainTunnel says what to do about a tunnel that cannot be made.
func explainTunnel(name string, err error) error {
	_, lookup := net.InterfaceByName(name)
	switch {
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.EINVAL) && lookup == nil:
		return fmt.Errorf("interface %s is in use: choose another name, or remove it with \"ip link delete %s\"", name, name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to create interface %s: run as root or with CAP_NET_ADMIN", name)
	}
	return fmt.Errorf("create interface %s: %w", name, err)
}

func openUAPI(cfg wgConfig, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(cfg.uapiFD), envUAPIFD)
	if cfg.uapiFD < 0 {
		var err error
		if f, err = uapi.Open(name); err != nil {
			return nil, explainUAPI(name, err)
		}
	}
	l, err := uapi.Listen(name, f)
	if err != nil && cfg.uapiFD >= 0 {
		return nil, fmt.Errorf("%s is not the listening socket %s: %w", envUAPIFD, uapi.SocketPath(name), err)
	}
	return l, err
}

// explainUAPI says what to do about a socket that cannot be made.
func explainUAPI(name string, err error) error {
	switch {
	case errors.Is(err, uapi.ErrInUse):
		return fmt.Errorf("configuration socket %s is in use: end the process that answers on it, or choose another name", uapi.SocketPath(name))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to make configuration socket %s: run as root", uapi.SocketPath(name))
	}
	return err
}

// openMetrics binds addr, or nothing if it is empty.
func openMetrics(addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	return observe.Listen(addr)
}

// writeName writes the interface's name, and a newline, to path if there is one.
func writeName(path, name string) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, []byte(name+"\n"), 0o644); err != nil {
		return fmt.Errorf("%s: %w", envNameFile, err)
	}
	return nil
}

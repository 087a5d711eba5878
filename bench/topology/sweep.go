package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Sweep deletes the namespaces, sockets and files of owners that died without closing their network.
func Sweep() error {
	var errs []error
	names, err := filepath.Glob(filepath.Join(namespaceDir, prefix+"*"))
	errs = append(errs, err)
	for _, path := range names {
		if !orphaned(namespaceName, filepath.Base(path)) {
			continue
		}
		killInside(path)
		if err := netns.DeleteNamed(filepath.Base(path)); err != nil {
			errs = append(errs, fmt.Errorf("sweep namespace %s: %w", filepath.Base(path), err))
		}
	}
	sockets, err := filepath.Glob(filepath.Join(socketDir, "fl*.sock"))
	errs = append(errs, err)
	for _, path := range sockets {
		if orphaned(socketName, filepath.Base(path)) {
			errs = append(errs, os.Remove(path))
		}
	}
	files, err := filepath.Glob(filepath.Join(fileDir, prefix+"*"))
	errs = append(errs, err)
	for _, path := range files {
		if orphaned(fileName, filepath.Base(path)) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// orphaned reports whether name is one of ours, by pattern, and the pid in it is of no process.
func orphaned(pattern *regexp.Regexp, name string) bool {
	m := pattern.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	return err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// killInside kills every process whose network namespace is the one at path: they belong to a
// dead owner. Processes that vanish meanwhile are what was wanted.
func killInside(path string) {
	var want, have unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return
	}
	for _, link := range links {
		if unix.Stat(link, &have) != nil || have.Ino != want.Ino || have.Dev != want.Dev {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(link, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

var (
	namespaceName = regexp.MustCompile(`^` + prefix + `(\d+)-\d+-\w+$`)
	fileName      = regexp.MustCompile(`^` + prefix + `(\d+)-\d+-[\w.]+$`)
	socketName    = regexp.MustCompile(`^fl[gc](\d+)x\d+\.sock$`)
)

// namespaceDir is where ip-netns(8) and the netns package mount named namespaces.
const namespaceDir = "/var/run/netns"

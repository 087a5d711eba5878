package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/internal/uapi"
)

// envDir names the folder with the programs, to the test binary that runs the tests.
const envDir = "FIRELANE_NETNSTEST_DIR"

// The programs under test, built once.
var firelaneWG, wireguardGo string

func TestMain(m *testing.M) {
	dir := os.Getenv(envDir)
	if dir == "" {
		os.Exit(outside())
	}
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// outside runs the test binary in namespaces of its own and returns its exit code. All that is
// left when it ends, or when this process is killed, the kernel kills.
func outside() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces and tunnels: run them as root")
		return 1
	}
	dir, err := os.MkdirTemp("", "firelane-netnstest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	runtime.LockOSThread() // the death signal follows the thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), envDir+"="+dir)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "run the tests in namespaces of their own:", err)
	return 1
}

// prepare mounts what the namespaces need and builds the programs into dir.
func prepare(dir string) error {
	sockets := filepath.Dir(uapi.SocketPath("any"))
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return err
	}
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", sockets, "tmpfs", 0, "mode=755"),
	); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	firelaneWG, wireguardGo = filepath.Join(dir, "firelane-wg"), filepath.Join(dir, "wireguard-go")
	for path, args := range map[string][]string{
		firelaneWG:  {raceFlag, "github.com/firelane/firelane/cmd/firelane"},
		wireguardGo: {"golang.zx2c4.com/wireguard"},
	} {
		if out, err := exec.Command("go", append([]string{"build", "-o", path}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	return nil
}

package worker_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// handoverPair is what a supervisor gives to all generations of a service.
func handoverPair(t *testing.T) []int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[:]
}

func keepAliveTo(s socket) func(*crowd) poster {
	return func(c *crowd) poster {
		return &keepAlive{crowd: c, dial: func() (net.Conn, error) { return net.Dial(s.network, s.address) }}
	}
}

func TestClientsNoticeNothingOfAHandover(t *testing.T) {
	for _, listen := range []func(*testing.T, string) socket{listenTCP, listenUnix} {
		s := listen(t, "web")
		t.Run(s.network, func(t *testing.T) {
			pair := handoverPair(t)
			start := func() *worker {
				w := startWorker(t, spec{role: "http", sockets: []socket{s}, pair: pair})
				w.await("READY=1")
				return w
			}
			current := start()
			const clients = 16
			crowd := newCrowd(clients, keepAliveTo(s))
			for range 20 {
				next := start()
				crowd.awaitMore(100)
				current.terminate()
				current.awaitExit()
				current = next
			}
			crowd.stop(t)
			if n := crowd.dials.Load(); n != clients {
				t.Errorf("%d clients have connected %d times", clients, n)
			}
		})
	}
}

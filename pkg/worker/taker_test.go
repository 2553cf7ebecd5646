package worker

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhereAConnectionWasAccepted(t *testing.T) {
	v4 := func(port int, b ...byte) unix.Sockaddr { return &unix.SockaddrInet4{Port: port, Addr: [4]byte(b)} }
	v6 := func(port int, ip string) unix.Sockaddr {
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte(net.ParseIP(ip).To16())}
	}
	tcp := func(address string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	path := &net.UnixAddr{Net: "unix", Name: "/run/web"}
	for _, test := range []struct {
		listener net.Addr
		local    unix.Sockaddr
		want     bool
	}{
		{tcp("127.0.0.1:80"), v4(80, 127, 0, 0, 1), true},
		{tcp("127.0.0.1:80"), v4(81, 127, 0, 0, 1), false},
		{tcp("127.0.0.1:80"), v4(80, 127, 0, 0, 2), false},
		{tcp("0.0.0.0:80"), v4(80, 10, 0, 0, 1), true},
		{tcp("0.0.0.0:80"), v6(80, "::1"), false},
		{tcp("[::]:80"), v6(80, "::1"), true},
		{tcp("[::]:80"), v6(80, "::ffff:10.0.0.1"), true},
		{tcp("[::1]:80"), v6(80, "::2"), false},
		{tcp("127.0.0.1:80"), v6(80, "::ffff:127.0.0.1"), true},
		{tcp("0.0.0.0:80"), &unix.SockaddrUnix{Name: "/run/web"}, false},
		{path, &unix.SockaddrUnix{Name: "/run/web"}, true},
		{path, &unix.SockaddrUnix{}, false},
		{path, v4(80, 127, 0, 0, 1), false},
		{&net.UDPAddr{Port: 80}, v4(80, 127, 0, 0, 1), false},
	} {
		if got := isAt(test.listener, test.local); got != test.want {
			t.Errorf("a connection at %+v of %v: %v", test.local, test.listener, got)
		}
	}
}

func TestGiversBeyondTheLimitAreTurnedAway(t *testing.T) {
	in, out := packets(t)
	taker := newTaker(&Group{}, in)
	for len(taker.sessions) < maxGivers {
		taker.sessions[new(net.UnixConn)] = -1
	}
	taker.work.Go(func() {
		p, err := receive(in, make([]byte, headerSize+1))
		if err == nil {
			err = taker.accept(p)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if _, err := makeOffer(t.Context(), out, 10*time.Second); !errors.Is(err, io.EOF) {
		t.Errorf("an offer too many: %v", err)
	}
	taker.work.Wait()
}

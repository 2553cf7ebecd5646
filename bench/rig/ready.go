package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// Ready is where a supervisord says that it is ready, as it does to systemd.
type Ready struct {
	path string
	conn *net.UnixConn
}

// ListenReady makes the socket, before supervisord is started.
func ListenReady(path string) (*Ready, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	return &Ready{path, conn}, err
}

// Env is the variable that supervisord finds it by.
func (r *Ready) Env() string { return "NOTIFY_SOCKET=" + r.path }

// Close removes it.
func (r *Ready) Close() {
	r.conn.Close()
	os.Remove(r.path)
}

// Wait returns when READY=1 has come; or with an error when supervisord has
// exited, ctx has ended, or Patience has. It may be called again, for the next.
func (r *Ready) Wait(ctx context.Context, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	r.conn.SetReadDeadline(time.Time{})
	interrupted := make(chan struct{})
	go func() {
		defer close(interrupted)
		select {
		case <-exited:
		case <-ctx.Done():
		}
		r.conn.SetReadDeadline(time.Unix(1, 0))
	}()
	defer func() { cancel(); <-interrupted }()
	buf := make([]byte, 4096)
	for {
		n, err := r.conn.Read(buf)
		if err != nil {
			return fmt.Errorf("it did not become ready: %w", err)
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
			return nil
		}
	}
}

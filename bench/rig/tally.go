package rig

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// A Tally is a socket to which the processes of a crowd send their pids.
type Tally struct{ conn *net.UnixConn }

// ListenTally makes the socket.
func ListenTally(path string) (Tally, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	return Tally{conn}, err
}

// Close removes the socket.
func (t Tally) Close() error { return t.conn.Close() }

// A Mark is one message, with the time at which it was read.
type Mark struct {
	PID int
	At  time.Time
}

// Next waits for the next n messages, for as long as patience goes.
func (t Tally) Next(ctx context.Context, n int, patience time.Duration) ([]Mark, error) {
	marks, err := t.Within(ctx, n, patience)
	if err == nil && len(marks) < n {
		err = fmt.Errorf("%d of %d processes were there within %v", len(marks), n, patience)
	}
	return marks, err
}

// Within returns the messages that come before patience ends, n at most.
func (t Tally) Within(ctx context.Context, n int, patience time.Duration) ([]Mark, error) {
	t.conn.SetReadDeadline(time.Now().Add(patience))
	stop := context.AfterFunc(ctx, func() { t.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	marks := make([]Mark, 0, n)
	buf := make([]byte, 32)
	for len(marks) < n {
		k, err := t.conn.Read(buf)
		if err != nil {
			return marks, ctx.Err() // the deadline, which is ours
		}
		pid, err := strconv.Atoi(string(buf[:k]))
		if err != nil {
			return marks, fmt.Errorf("cannot read the tally: %w", err)
		}
		marks = append(marks, Mark{pid, time.Now()})
	}
	return marks, nil
}

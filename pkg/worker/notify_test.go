package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogPingsWhileTheCheckPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var pings []time.Duration
		check := func(context.Context) error {
			if since := time.Since(begin); since > 2*time.Second && since < 5*time.Second {
				return errors.New("unwell")
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6500*time.Millisecond)
		defer cancel()
		watch(ctx, time.Second, check, func() { pings = append(pings, time.Since(begin)) })
		want := []time.Duration{0, time.Second, 2 * time.Second, 5 * time.Second, 6 * time.Second}
		if len(pings) != len(want) {
			t.Fatalf("pings at %v, want %v", pings, want)
		}
		for i := range want {
			if pings[i] != want[i] {
				t.Errorf("ping %d at %v, want %v", i, pings[i], want[i])
			}
		}
	})
}

func TestASupervisorThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 100_000 { // sysctl net.unix.max_dgram_qlen is 10, or some hundreds
		within, end := context.WithTimeout(ctx, short)
		err = send(within, path, "STATUS=here", nil)
		end()
		if err != nil {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("sending to who does not read: %v", err)
	}
	time.AfterFunc(short, cancel)
	if err := send(ctx, path, "STATUS=here", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("sending to who does not read, until it is no use: %v", err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, test := range []struct {
		pid, usec string
		want      time.Duration
	}{
		{"", "", 0},
		{"", "3000000", 3 * time.Second},
		{"1", "3000000", 0},
		{"", "-5", 0},
		{"", "99999999999999999999", 0},
		{"", "9223372036854775807", 0},
	} {
		if got := watchdogInterval(test.pid, test.usec); got != test.want {
			t.Errorf("WATCHDOG_PID=%q WATCHDOG_USEC=%q: %v, want %v", test.pid, test.usec, got, test.want)
		}
	}
}

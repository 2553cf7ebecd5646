package main

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

func TestTheClockEndsWhenTheProcessLeaves(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g worker.Group
	g.HTTP(&http.Server{Handler: http.HandlerFunc(clock)}, l)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx) }()

	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), "by version 1") {
		t.Errorf("the clock says %q", lines.Text())
	}
	leave()
	for lines.Scan() {
		continue
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the end of the stream: %v", err)
	}
	http.DefaultClient.CloseIdleConnections() // it would wait for another request
	if err := <-done; err != nil {
		t.Error(err)
	}
}

package rig

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Unit is a service as superctl status has it.
type Unit struct {
	Name     string `json:"name"`
	Restarts int    `json:"restarts"`
}

// Units asks for all services.
func (c Ctl) Units(ctx context.Context) ([]Unit, error) {
	a, err := c.Must(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Services []Unit `json:"services"`
	}
	if err := json.Unmarshal([]byte(a.Stdout), &status); err != nil {
		return nil, fmt.Errorf("cannot read superctl's answer: %w", err)
	}
	return status.Services, nil
}

// A Socket is one listening socket as superctl sockets has it.
type Socket struct {
	Address string `json:"address"`
	Steered bool   `json:"steered"`
	Note    string `json:"note"` // such as why it is not
}

// Sockets asks for all.
func (c Ctl) Sockets(ctx context.Context) (all []Socket, err error) {
	a, err := c.Must(ctx, "sockets", "-o", "json")
	if err != nil {
		return nil, err
	}
	var units []struct {
		Sockets []Socket `json:"sockets"`
	}
	if err := json.Unmarshal([]byte(a.Stdout), &units); err != nil {
		return nil, fmt.Errorf("cannot read superctl's answer: %w", err)
	}
	for _, u := range units {
		all = append(all, u.Sockets...)
	}
	return all, nil
}

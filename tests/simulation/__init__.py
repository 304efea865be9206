"""Whole rooms in virtual time: a host, peers, a network with faults, sound cards with crystals of their own."""

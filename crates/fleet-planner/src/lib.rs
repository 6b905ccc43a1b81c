//! Pure decisions about the fleet: inventory and policy to placement.

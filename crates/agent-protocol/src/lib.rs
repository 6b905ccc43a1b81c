//! Messages between hub and agent beyond plain API objects.

"""A CPU's arithmetic peak, measured: loops of multiply-adds that live in registers or tiles alone."""

"""What a machine costs to make, buy and run, in dollars and in carbon."""

from archsim.cost.bill import UnitBill, machine_bill
from archsim.cost.evaluate import evaluate_cost, usd_per_hour

__all__ = ["UnitBill", "evaluate_cost", "machine_bill", "usd_per_hour"]

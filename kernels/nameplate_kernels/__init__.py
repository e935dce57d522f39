"""The measured workloads. They import nothing of the harness; `workload` has their contract.

`Matmul`, `Attention`, `TransformerBlock`, `TrainingStep` and `Memory` are the declarations; each prepares its
own tensors. `PRECISIONS`, `PRODUCT_PRECISIONS` (those of products alone) and `FILLS` name the dtypes and
fills.
"""

from nameplate_kernels.attention import ATTENTION_PASSES, Attention
from nameplate_kernels.attention_backends import ATTENTION_BACKENDS
from nameplate_kernels.best_matmul import BestMatmul
from nameplate_kernels.block_launch import EXECUTIONS, PASSES
from nameplate_kernels.cache_memory import CACHE_KINDS, CacheMemory, find_instructions
from nameplate_kernels.collective import KINDS as COLLECTIVES
from nameplate_kernels.collective import Collective, bus_factor
from nameplate_kernels.fp8_linear import FP8
from nameplate_kernels.matmul import LAYOUTS, Matmul, layouts_of
from nameplate_kernels.memory import Memory
from nameplate_kernels.model_products import GROUPED, LOOP, GroupedProduct, ModelProduct, has_grouped
from nameplate_kernels.numerics import FILLS, PRECISIONS, PRODUCT_PRECISIONS, Precision, precision_of
from nameplate_kernels.product_backends import PRODUCT_BACKENDS
from nameplate_kernels.scaled_block import STRATEGIES as SCALED_STRATEGIES
from nameplate_kernels.scaled_block import ScaledBlock
from nameplate_kernels.scaled_operands import SCALINGS
from nameplate_kernels.step_launch import STEP_PASSES
from nameplate_kernels.training_step import TrainingStep
from nameplate_kernels.transformer_block import NORMS, TransformerBlock
from nameplate_kernels.workload import CheckResult, Prepared, Workload

__all__ = [
    "ATTENTION_BACKENDS",
    "ATTENTION_PASSES",
    "CACHE_KINDS",
    "COLLECTIVES",
    "EXECUTIONS",
    "FILLS",
    "FP8",
    "GROUPED",
    "LAYOUTS",
    "LOOP",
    "NORMS",
    "PASSES",
    "PRECISIONS",
    "PRODUCT_BACKENDS",
    "PRODUCT_PRECISIONS",
    "SCALED_STRATEGIES",
    "SCALINGS",
    "STEP_PASSES",
    "Attention",
    "BestMatmul",
    "CacheMemory",
    "CheckResult",
    "Collective",
    "GroupedProduct",
    "Matmul",
    "Memory",
    "ModelProduct",
    "Precision",
    "Prepared",
    "ScaledBlock",
    "TrainingStep",
    "TransformerBlock",
    "Workload",
    "bus_factor",
    "find_instructions",
    "has_grouped",
    "layouts_of",
    "precision_of",
]

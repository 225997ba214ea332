/* The CPython module sumix._C: importing it registers torch.ops.sumix. Its one attribute, cpu_isa, names the
 * instruction set of the CPU kernels in use; the environment variable SUMIX_CPU_ISA asks for another. */
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <stdlib.h>

#include "kernels.h"
#include "ops.h"

static const struct sumix_op_entry *const tables[] = {sumix_uncertainty_ops,   sumix_semantic_distance_ops,
                                                      sumix_mask_ops,          sumix_loss_ops,
                                                      sumix_mix_ops,           sumix_sample_ops,
                                                      sumix_saliency_ops,      sumix_mix_mask_ops,
                                                      sumix_mix_resize_ops,    sumix_mix_inplace_ops,
                                                      sumix_mix_normalize_ops, sumix_masked_similarity_ops};

/* The handles stay for ever: deleting one would take its ops away. */
static int register_ops(void)
{
  TorchLibraryHandle schemas, cpu;
  if (libtorch.aoti_torch_library_init_def("sumix", __FILE__, __LINE__, &schemas) ||
      libtorch.aoti_torch_library_init_impl("sumix", "CPU", __FILE__, __LINE__, &cpu))
    return -1;
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const struct sumix_op_entry *op = tables[t]; op->name != NULL; op++)
      if (libtorch.aoti_torch_library_def(schemas, op->schema) ||
          libtorch.torch_library_impl(cpu, op->name, op->cpu, SUMIX_TORCH_ABI))
        return -1;
  return 0;
}

static int exec_module(PyObject *module)
{
  struct sumix_status status;
  const char *missing = sumix_torch_load();
  if (missing != NULL) {
    PyErr_Format(PyExc_ImportError, "sumix needs torch 2.10 or newer, imported first: %s not found", missing);
    return -1;
  }
  const char *isa = getenv("SUMIX_CPU_ISA");
  if (sumix_cpu_choose(isa != NULL && *isa != '\0' ? isa : NULL, &status) != 0) {
    PyErr_SetString(PyExc_ImportError, status.message);
    return -1;
  }
  if (register_ops() != 0) {
    PyErr_SetString(PyExc_ImportError, "torch refused to register the sumix ops (are they registered already?)");
    return -1;
  }
  return PyModule_AddStringConstant(module, "cpu_isa", sumix_cpu.isa);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "sumix._C", .m_slots = slots};

PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&definition); }

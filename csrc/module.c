/* The CPython module sumix._C: importing it registers torch.ops.sumix. Its attributes: cpu_isa, the instruction
 * set of the CPU kernels in use (the environment variable SUMIX_CPU_ISA asks for another); cuda_architectures, what the
 * CUDA kernels are compiled for, "" without any; cuda_missing, why there are none, "" with them, and with them
 * cuda_devices(), what CUDA finds on this machine; has_cuda_kernels, whether they are registered: torch must have CUDA
 * too; registered, a dict in which Python notes what it has registered for them. The ops and that dict are the same
 * when the module is imported again. */
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <stdlib.h>

#include "kernels.h"
#include "ops.h"

#ifndef SUMIX_NAMESPACE  // the tests load a second build beside the first
#define SUMIX_NAMESPACE "sumix"
#endif

#ifdef SUMIX_CUDA
#include "cuda/device.h"
static const char cuda_architectures[] = SUMIX_CUDA, cuda_missing[] = "";
#else
#ifndef SUMIX_NO_CUDA  // setup.py says why there are no CUDA kernels
#define SUMIX_NO_CUDA "it was not built by setup.py"
#endif
static const char cuda_architectures[] = "", cuda_missing[] = SUMIX_NO_CUDA;
#endif

static const struct sumix_op_entry *const tables[] = {sumix_uncertainty_ops,   sumix_semantic_distance_ops,
                                                      sumix_mask_ops,          sumix_loss_ops,
                                                      sumix_mix_ops,           sumix_sample_ops,
                                                      sumix_saliency_ops,      sumix_mix_mask_ops,
                                                      sumix_mix_resize_ops,    sumix_mix_inplace_ops,
                                                      sumix_mix_normalize_ops, sumix_masked_similarity_ops,
                                                      sumix_evidence_mask_ops, sumix_foreground_ops};

/* For all devices the same functions: csrc/device.h goes by the tensors. The handles stay for ever: deleting one would
 * take its ops away. */
static int register_ops(bool for_cuda)
{
  TorchLibraryHandle schemas, devices[2];
  const char *const keys[] = {"CPU", "CUDA"};
  const size_t num_devices = for_cuda ? 2 : 1;
  if (libtorch.aoti_torch_library_init_def(SUMIX_NAMESPACE, __FILE__, __LINE__, &schemas)) return -1;
  for (size_t d = 0; d < num_devices; d++)
    if (libtorch.aoti_torch_library_init_impl(SUMIX_NAMESPACE, keys[d], __FILE__, __LINE__, &devices[d])) return -1;
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const struct sumix_op_entry *op = tables[t]; op->name != NULL; op++) {
      if (libtorch.aoti_torch_library_def(schemas, op->schema)) return -1;
      for (size_t d = 0; d < num_devices; d++)
        if (libtorch.torch_library_impl(devices[d], op->name, op->kernel, SUMIX_TORCH_ABI)) return -1;
    }
  return 0;
}

#ifdef SUMIX_CUDA
/* (runtime, driver, error, [(major, minor), ...]): versions as CUDA counts them, 0 for none; an error's text, or None;
 * the compute capability of every GPU. */
static PyObject *cuda_devices(PyObject *module, PyObject *none)
{
  (void)module, (void)none;
  int runtime, driver, count;
  sumix_cuda_versions(&runtime, &driver);
  int error = sumix_cuda_count(&count);
  PyObject *devices = PyList_New(0);
  if (devices == NULL) return NULL;
  for (int device = 0, major, minor; device < count; device++) {
    error = sumix_cuda_capability(device, &major, &minor);
    if (error != 0) break;
    PyObject *capability = Py_BuildValue("(ii)", major, minor);
    const bool added = capability != NULL && PyList_Append(devices, capability) == 0;
    Py_XDECREF(capability);
    if (!added) return Py_DECREF(devices), NULL;
  }
  return Py_BuildValue("(iizN)", runtime, driver, error == 0 ? NULL : sumix_cuda_error_string(error), devices);
}
#endif

static PyObject *registered;  // NULL before the ops are

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
  const bool has_cuda = *cuda_architectures != '\0' && libtorch_cuda.device_type != SUMIX_NO_DEVICE;
  if (registered == NULL) {
    if (register_ops(has_cuda) != 0) {
      PyErr_SetString(PyExc_ImportError, "torch refused to register the sumix ops (are they registered already?)");
      return -1;
    }
    registered = PyDict_New();
  }
  if (registered == NULL || PyModule_AddObjectRef(module, "registered", registered) != 0 ||
      PyModule_AddStringConstant(module, "cuda_architectures", cuda_architectures) != 0 ||
      PyModule_AddStringConstant(module, "cuda_missing", cuda_missing) != 0 ||
      PyModule_AddObjectRef(module, "has_cuda_kernels", has_cuda ? Py_True : Py_False) != 0)
    return -1;
  return PyModule_AddStringConstant(module, "cpu_isa", sumix_cpu.isa);
}

static PyMethodDef methods[] = {
#ifdef SUMIX_CUDA
    {"cuda_devices", cuda_devices, METH_NOARGS, "(runtime, driver, error, compute capabilities)"},
#endif
    {0},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "sumix._C", .m_methods = methods,
                                        .m_slots = slots};

PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&definition); }
